//! The files a configuration names: trust sources, CRL globs, the issuing CA and what it may sign.
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
use super::{IssuingFiles, Scope};
use crate::inspect::authority::root_path;
use crate::inspect::constraints::Coverage;
use crate::inspect::issuer::Issuer;
use crate::policy::HostPattern;
use crate::upstream::trust::{Roots, Sources, Trust};

/// What was read.
pub(super) struct PulledIn {
    pub trust: Arc<Trust>,
    pub sources: Sources,
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
        Scope::Full => issuer(lowered, now, problems),
        Scope::WithoutIssuingCa => None,
    };
    Some(PulledIn { trust: Arc::new(trust?), sources, issuer: issuer.map(Arc::new) })
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
            for path in paths {
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

fn issuer(lowered: &Lowered<'_>, now: SystemTime, problems: &mut Problems<'_>) -> Option<Issuer> {
    let (files, at) = lowered.issuing.as_ref()?;
    match Issuer::load(&files.certificate, &files.key, now) {
        Ok(issuer) => {
            check_coverage(&issuer, files, at, &lowered.inspected, problems);
            Some(issuer)
        }
        Err(error) => {
            let missing = !files.certificate.exists() || !files.key.exists();
            let hint = if missing {
                "`sekisho ca init` makes what is missing"
            } else {
                "`sekisho ca show` says what is there"
            };
            problems.error(at, error.to_string(), String::new()).hint(hint);
            None
        }
    }
}

fn check_coverage(
    issuer: &Issuer,
    files: &IssuingFiles,
    at: &At,
    inspected: &[(HostPattern, At)],
    problems: &mut Problems<'_>,
) {
    let mut unconstrained = false;
    let mut told = false;
    for (pattern, at) in inspected {
        match issuer.coverage(pattern.fixed_suffix(), pattern.is_wildcard()) {
            Coverage::Covered => {}
            Coverage::Unconstrained => unconstrained = true,
            Coverage::NotCovered(gap) => {
                let found = format!("\"{pattern}\", which the issuing CA cannot sign for: {gap}");
                let problem = problems.error(at, found, "an inspected host within the CA's name constraints");
                if !told {
                    problem.hint(how_to_reissue(files));
                    told = true;
                }
            }
        }
    }
    if unconstrained {
        problems
            .warning(
                at,
                "an issuing CA without name constraints",
                "one that can sign the inspected hosts and nothing else",
            )
            .hint("whoever gets its key can sign any site for your clients; `sekisho ca init` makes a constrained one");
    }
}

/// The clients trust the root: as long as that stays, a new intermediate under it changes nothing for them.
fn how_to_reissue(files: &IssuingFiles) -> String {
    format!(
        "issue a new intermediate under the same root; the clients keep the root they trust:\n\
         1. move {} and {} away\n\
         2. bring {} back from its safe place, beside {}\n\
         3. run `sekisho ca init` with this file, and take the root's key away again\n\
         4. reload",
        files.certificate.display(),
        files.key.display(),
        root_path(&files.key, "key").display(),
        root_path(&files.certificate, "pem").display(),
    )
}
