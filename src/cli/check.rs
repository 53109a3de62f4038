//! `sekisho check`: every problem at once, or the effective policy on one screen.

use std::process::ExitCode;

use super::{ConfigFile, DONE, complain, counted, say};
use crate::config::{Scope, summary};

pub(super) fn check(file: &ConfigFile) -> ExitCode {
    let config = match file.load(Scope::Full) {
        Ok(config) => config,
        Err(code) => return code,
    };
    for warning in &config.warnings {
        complain(&warning.to_string());
    }
    say(&summary(&config));
    say(&format!("\n{}: {}", file.path().display(), counted(0, config.warnings.len())));
    DONE.into()
}
