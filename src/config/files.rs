//! The files a configuration names: trust sources, CRL globs, the issuing CA (`issuing`); and resolv.conf, where it names no servers.
//!
//! What may not be here: rules of the configuration's text (`lower`), reading of certificates (`upstream::trust`,
//! `inspect::issuer`).

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use super::lower::Lowered;
use super::problem::{At, Problems, quoted};
use super::reader::Text;
use super::settings::Upstream;
use super::{Scope, issuing};
use crate::inspect::issuer::Issuer;
use crate::upstream::resolve::{self, RESOLV_CONF};
use crate::upstream::trust::{Roots, Sources, Trust};

/// CRL files of all globs: a public CA has a few hundred.
const MAX_CRLS: usize = 2_000;

/// What was read.
pub(super) struct PulledIn {
    pub resolver: resolve::Settings,
    pub trust: Arc<Trust>,
    pub sources: Sources,
    /// Where the globs of `crls` look.
    pub crl_folders: Vec<PathBuf>,
    /// `None` without `[issuing_ca]`, or without an issuing CA in scope.
    pub issuer: Option<Arc<Issuer>>,
}

/// `None` where an error stands in `problems`.
pub(super) fn pull_in(
    lowered: &Lowered<'_>,
    base: &Path,
    scope: Scope,
    now: SystemTime,
    problems: &mut Problems<'_>,
) -> Option<PulledIn> {
    let (sources, places) = sources(&lowered.upstream, base, problems);
    let trust = trust(&lowered.upstream, &sources, &places, now, problems);
    let issuer = match scope {
        Scope::Full | Scope::WithoutIssuingKey => issuing::load(lowered, scope, now, problems),
        Scope::WithoutIssuingCa => None,
    };
    let crl_folders = lowered.upstream.crls.iter().map(|text| folder_of(&base.join(text.text))).collect();
    let resolver = lowered.resolver.clone().completed(Path::new(RESOLV_CONF));
    Some(PulledIn { resolver, trust: Arc::new(trust?), sources, crl_folders, issuer: issuer.map(Arc::new) })
}

/// The trust sources, and where in the file each path stands.
fn sources(upstream: &Upstream<'_>, base: &Path, problems: &mut Problems<'_>) -> (Sources, Vec<(PathBuf, At)>) {
    let mut places = upstream.extra_roots.clone();
    let mut crls = Vec::new();
    for text in &upstream.crls {
        for path in expand(text, base, problems) {
            places.push((path.clone(), text.at.clone()));
            crls.push(path);
        }
        if crls.len() > MAX_CRLS {
            crls.clear();
            problems.error(&text.at, "the last of too many CRL files", format!("at most {MAX_CRLS} in all"));
            break;
        }
    }
    if let Roots::File(path) = &upstream.roots {
        places.push((path.clone(), upstream.roots_at.clone()));
    }
    let sources = Sources {
        roots: upstream.roots.clone(),
        extra_roots: upstream.extra_roots.iter().map(|(path, _)| path.clone()).collect(),
        crls,
        crl_unknown: upstream.crl_unknown,
        crl_stale: upstream.crl_stale,
        min_tls: upstream.min_tls,
    };
    (sources, places)
}

fn trust(
    upstream: &Upstream<'_>,
    sources: &Sources,
    places: &[(PathBuf, At)],
    now: SystemTime,
    problems: &mut Problems<'_>,
) -> Option<Trust> {
    match Trust::load(sources, now) {
        Ok(trust) => {
            for warning in trust.warnings() {
                problems.warning(&upstream.at, warning, String::new());
            }
            Some(trust)
        }
        Err(errors) => {
            for error in errors {
                let place = places.iter().find(|(path, _)| error.file.as_ref() == Some(path));
                let at = place.map_or(&upstream.roots_at, |(_, at)| at);
                let file = error.file.as_ref().map(|path| quoted(&path.to_string_lossy()) + " ");
                problems.error(at, file.unwrap_or_default() + &error.what, String::new());
            }
            None
        }
    }
}

/// What stands before the first star, up to the folder.
fn folder_of(pattern: &Path) -> PathBuf {
    let fixed = pattern.components().take_while(|part| !part.as_os_str().to_string_lossy().contains(['*', '?', '[']));
    let fixed: PathBuf = fixed.collect();
    if fixed == pattern { fixed.parent().map_or_else(PathBuf::new, Path::to_owned) } else { fixed }
}

/// The files of one item of `crls`, in the order of their names.
fn expand(text: &Text<'_>, base: &Path, problems: &mut Problems<'_>) -> Vec<PathBuf> {
    if !text.text.contains(['*', '?', '[']) {
        return vec![base.join(text.text)];
    }
    let relative = Path::new(text.text).is_relative() && !base.as_os_str().is_empty();
    let directory = glob::Pattern::escape(&base.to_string_lossy());
    let pattern = if relative { format!("{directory}/{}", text.text) } else { text.text.to_owned() };
    let mut files = Vec::new();
    match glob::glob(&pattern) {
        Err(error) => {
            problems.error(&text.at, format!("{} ({})", quoted(text.text), error.msg), "a file or a glob");
        }
        Ok(paths) => {
            for path in paths.take(MAX_CRLS + 1) {
                match path {
                    Ok(path) => files.push(path),
                    Err(error) => {
                        problems.error(&text.at, error.to_string(), "a directory that can be read");
                    }
                }
            }
            if files.is_empty() {
                problems.warning(&text.at, format!("{}, which matches no file", quoted(text.text)), "at least one CRL");
            }
        }
    }
    files
}
