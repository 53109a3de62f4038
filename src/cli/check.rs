//! `sekisho check`: every problem at once, or the effective policy on one screen.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use super::{ConfigFile, DONE, complain, counted, say};
use crate::config::{Config, Scope, summary};
use crate::restrict::Reach;
use crate::server::fit_connections;

pub(super) fn check(file: &ConfigFile) -> ExitCode {
    let mut config = match file.load(Scope::Full) {
        Ok(config) => config,
        Err(code) => return code,
    };
    let mut warnings: Vec<String> = config.warnings.iter().map(ToString::to_string).collect();
    if let Some(trouble) = trouble_with(&config.record.path) {
        warnings.push(format!("warning: record.path: {trouble}; `run` would refuse to start"));
    }
    if let Some(folder) = config.control.as_ref().and_then(|control| missing_folder(&control.socket)) {
        warnings.push(format!("warning: control.socket: {folder}; `run` would refuse to start"));
    }
    warnings.extend(folders_above_itself(&config).into_iter().map(|(key, folder)| {
        format!(
            "warning: {key}: the service writes in {folder}, from where its configuration is read: a reload that inspects further names is \
             refused there until a restart; have it in a folder of its own, such as {}",
            if key == "record.path" { "/var/log/sekisho" } else { "/run/sekisho" }
        )
    }));
    warnings.iter().for_each(|warning| complain(warning));
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
    say(&format!("\n{}: {}", file.path().display(), counted(0, warnings.len())));
    DONE.into()
}

/// What of the service's own, and in which folder, lies where the configuration lies, which is then the service's own word (J07).
fn folders_above_itself(config: &Config) -> Vec<(&'static str, String)> {
    if config.issuing_files.is_none() {
        return Vec::new();
    }
    let reach = Reach::of_service(config, None);
    let above = |folder: &&PathBuf| reach.obeyed.iter().any(|obeyed| obeyed.starts_with(folder));
    let found = [("record.path", &reach.write), ("control.socket", &reach.own)].map(|(key, folders)| {
        let folder = folders.iter().find(above)?;
        Some((key, folder.display().to_string()))
    });
    found.into_iter().flatten().collect()
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
