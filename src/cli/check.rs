//! `sekisho check`: every problem at once, or the effective policy on one screen.

use std::path::Path;
use std::process::ExitCode;

use super::{ConfigFile, DONE, complain, counted, say};
use crate::config::{Scope, summary};
use crate::server::fit_connections;

pub(super) fn check(file: &ConfigFile) -> ExitCode {
    let mut config = match file.load(Scope::Full) {
        Ok(config) => config,
        Err(code) => return code,
    };
    for warning in &config.warnings {
        complain(&warning.to_string());
    }
    if let Some(trouble) = trouble_with(&config.record.path) {
        complain(&format!("warning: record.path: {trouble}; `run` would refuse to start"));
    }
    if let Some(folder) = config.control.as_ref().and_then(|control| missing_folder(&control.socket)) {
        complain(&format!("warning: control.socket: {folder}; `run` would refuse to start"));
    }
    let configured = config.limits.all.connections;
    fit_connections(&mut config);
    if let (Some(configured), Some(carried)) = (configured, config.limits.all.connections)
        && carried < configured
    {
        complain(&format!(
            "limits.connections = {configured} is more than the descriptor limit of this shell carries; a service started from \
             here would take {carried} (LimitNOFILE of its unit may differ)"
        ));
    }
    say(&summary(&config));
    say(&format!("\n{}: {}", file.path().display(), counted(0, config.warnings.len())));
    DONE.into()
}

/// Why the record could not be opened here and now, as far as looking shows.
fn trouble_with(path: &Path) -> Option<String> {
    let shown = path.display();
    match path.symlink_metadata() {
        Ok(found) if found.is_file() => None,
        Ok(found) if found.is_symlink() => Some(format!("{shown} is a symbolic link, it must be an ordinary file")),
        Ok(_) => Some(format!("{shown} is there and is no ordinary file")),
        Err(_) => missing_folder(path),
    }
}

fn missing_folder(path: &Path) -> Option<String> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let shown = folder.display();
    let missing = || format!("the directory {shown} is not there (for example: install -d -m 0750 -o USER {shown})");
    (!folder.is_dir()).then(missing)
}
