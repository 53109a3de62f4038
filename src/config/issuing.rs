//! `[issuing_ca]`: whose files, the one that takes over, and what each of them must be able to sign.
//!
//! The section is read without any other file ([`read`]); its files are read when the configuration is pulled together ([`load`]).

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use time::macros::offset;
use time::{Date, OffsetDateTime, PrimitiveDateTime, Time};

use super::lower::Lowered;
use super::problem::{At, Problems, quoted};
use super::reader::{Table, Text};
use super::{IssuingFiles, NextFiles, Scope, day_of, ismap, schema, settings};
use crate::inspect::authority::RootFiles;
use crate::inspect::constraints::Coverage;
use crate::inspect::issuer::Issuer;
use crate::inspect::keyfile;
use crate::policy::HostPattern;

/// How a key is named that systemd hands over.
const CREDENTIAL: &str = "credential:";
/// Days before its end from which on an issuing CA without a successor is warned of.
const SOON: i64 = 60;

/// Where the section's two certificates stand.
pub(super) struct Places {
    first: At,
    next: Option<(At, At)>,
    /// The keys that only the service has.
    unseen: Vec<(At, String)>,
}

/// `None` where there is no `[issuing_ca]`.
pub(super) fn read<'t>(root: &Table<'t>, base: &Path, problems: &mut Problems<'_>) -> Option<(IssuingFiles, Places)> {
    let table = root.table("issuing_ca", Some(&schema::ISSUING_CA), problems);
    if !table.is_present() {
        return None;
    }
    let mut unseen = Vec::new();
    let (certificate, key, at) = pair(&table, base, &mut unseen, problems);
    let following = table.table("next", Some(&schema::ISSUING_CA_NEXT), problems);
    let mut places = Places { first: at, next: None, unseen: Vec::new() };
    let next = if following.is_present() {
        let (certificate, key, at) = pair(&following, base, &mut unseen, problems);
        let from = ismap::day(&following, "from", problems);
        if !following.has("from") {
            following.missing("from", "the day from which on leaves are its own, such as 2027-03-31", problems);
        }
        places.next = Some((at, following.place("from")));
        from.map(|from| NextFiles { certificate, key, from })
    } else {
        None
    };
    places.unseen = unseen;
    Some((IssuingFiles { certificate, key, next }, places))
}

fn pair<'t>(
    table: &Table<'t>,
    base: &Path,
    unseen: &mut Vec<(At, String)>,
    problems: &mut Problems<'_>,
) -> (PathBuf, PathBuf, At) {
    let certificate = table.required_text("certificate", "the issuing certificate's PEM file", problems);
    let key = table.required_text("key", "the PEM file of the certificate's key", problems);
    let path = certificate.as_ref().and_then(|text| settings::file(text, base, problems)).unwrap_or_default();
    let key = key.and_then(|text| key_file(&text, base, unseen, problems)).unwrap_or_default();
    (path, key, certificate.map_or_else(|| table.at.clone(), |text| text.at))
}

/// A file, or `credential:NAME`: what `LoadCredential=NAME:FILE` of the unit puts into `$CREDENTIALS_DIRECTORY`.
fn key_file(
    text: &Text<'_>,
    base: &Path,
    unseen: &mut Vec<(At, String)>,
    problems: &mut Problems<'_>,
) -> Option<PathBuf> {
    let Some(name) = text.text.strip_prefix(CREDENTIAL) else { return settings::file(text, base, problems) };
    let sound = (1..=255).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_graphic() && b != b'/');
    if !sound || name.starts_with('.') {
        problems.error(
            &text.at,
            quoted(text.text),
            "credential: and the name of a systemd credential, such as \"credential:ca-key\"",
        );
        return None;
    }
    if keyfile::credentials_directory().is_none() {
        unseen.push((text.at.clone(), name.to_owned()));
    }
    Some(keyfile::credential(name))
}

/// `None` without `[issuing_ca]`, or where an error stands in `problems`.
pub(super) fn load(
    lowered: &Lowered<'_>,
    scope: Scope,
    now: SystemTime,
    problems: &mut Problems<'_>,
) -> Option<Issuer> {
    let (files, places) = lowered.issuing.as_ref()?;
    if scope == Scope::Full {
        tell_unseen(&places.unseen, problems);
    }
    let with_key = scope == Scope::Full && places.unseen.is_empty();
    let own = Own::first(files);
    let first = open(&own, with_key, &places.first, lowered, problems);
    let Some((next, (at, from_at))) = files.next.as_ref().zip(places.next.as_ref()) else {
        let first = first?;
        hold(&first, now, &places.first, problems);
        near_its_end(&first, now, &places.first, problems);
        return Some(first);
    };
    let following = open(&own.next(next), with_key, at, lowered, problems);
    let (first, following) = (first?, following?);
    let from = begins(next.from);
    if next.from <= day_of(now) {
        hold(&following, now, at, problems);
        near_its_end(&following, now, at, problems);
        let found = format!("{}, which has come", next.from);
        let problem = problems.warning(from_at, found, "a day to come");
        problem.hint("move its certificate and key to where those of [issuing_ca] are, and remove [issuing_ca.next]");
    } else {
        hold(&first, now, &places.first, problems);
        let ends = [("first", &first), ("next", &following)].map(|(which, ca)| (which, ca.certificate().not_after));
        if let Some((which, end)) = ends.into_iter().find(|(_, end)| *end < OffsetDateTime::from(from)) {
            let found = format!("{}, when the {which} issuing CA has ended ({end})", next.from);
            problems.error(from_at, found, "a day on which both are valid");
        } else {
            hold(&following, from, at, problems);
        }
    }
    Some(first.followed_by(following, from))
}

/// The day's beginning in Japan, whose dates these are.
fn begins(day: Date) -> SystemTime {
    PrimitiveDateTime::new(day, Time::MIDNIGHT).assume_offset(offset!(+9)).into()
}

fn tell_unseen(unseen: &[(At, String)], problems: &mut Problems<'_>) {
    for (number, (at, name)) in unseen.iter().enumerate() {
        let found = format!("\"{CREDENTIAL}{name}\", and $CREDENTIALS_DIRECTORY is not set");
        let expected = format!("a unit with LoadCredential={name}:FILE around it, as the service has");
        let problem = problems.warning(at, found, expected);
        if number == 0 {
            let unit = keyfile::unit_with(unseen.iter().map(|(_, name)| name.as_str()));
            problem.hint(format!(
                "here the key was not looked at, and nothing can be signed; put before the command, to have it:\n{unit}"
            ));
        }
    }
}

/// The files of one of the two, and how others like them are made.
struct Own<'f> {
    certificate: &'f Path,
    key: &'f Path,
    init: &'static str,
    /// The first one's certificate, whose root is the root of both.
    first: &'f Path,
}

impl<'f> Own<'f> {
    fn first(files: &'f IssuingFiles) -> Self {
        let IssuingFiles { certificate, key, next: _ } = files;
        Self { certificate, key, init: "sekisho ca init", first: certificate }
    }

    fn next(&self, files: &'f NextFiles) -> Self {
        let NextFiles { certificate, key, from: _ } = files;
        Self { certificate, key, init: "sekisho ca init --next", first: self.first }
    }
}

fn open(own: &Own<'_>, with_key: bool, at: &At, lowered: &Lowered<'_>, problems: &mut Problems<'_>) -> Option<Issuer> {
    let Own { certificate, key, .. } = own;
    match Issuer::open(certificate, with_key.then_some(*key)) {
        Ok(issuer) => {
            check_coverage(&issuer, own, at, &lowered.inspected, problems);
            Some(issuer)
        }
        Err(error) => {
            let credential = with_key && keyfile::credential_name(key).is_some();
            let hint = if !certificate.exists() || (with_key && !credential && !key.exists()) {
                format!("`{}` makes what is missing", own.init)
            } else if credential {
                "`sekisho ca show` says what is there; where the credential's file has been changed, restart: a reload does not read it anew"
                    .to_owned()
            } else {
                "`sekisho ca show` says what is there".to_owned()
            };
            problems.error(at, error.to_string(), String::new()).hint(hint);
            None
        }
    }
}

/// That it is valid at `moment`.
fn hold(issuer: &Issuer, moment: SystemTime, at: &At, problems: &mut Problems<'_>) {
    if let Err(error) = issuer.check_validity(moment) {
        problems.error(at, error.to_string(), String::new()).hint("`sekisho ca show` says what is there");
    }
}

fn near_its_end(issuer: &Issuer, now: SystemTime, at: &At, problems: &mut Problems<'_>) {
    let end = issuer.certificate().not_after;
    let days = (end - OffsetDateTime::from(now)).whole_days();
    if (0..SOON).contains(&days) {
        let found = format!("an issuing CA that ends in {days} days ({})", end.to_offset(offset!(+9)).date());
        let problem = problems.warning(at, found, "[issuing_ca.next], which takes over before that day");
        problem.hint(
            "write the section, then run `sekisho ca init --next`: it makes the certificate and key that it names",
        );
    }
}

fn check_coverage(
    issuer: &Issuer,
    own: &Own<'_>,
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
                    problem.hint(how_to_reissue(own));
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
fn how_to_reissue(own: &Own<'_>) -> String {
    let Own { certificate, key, init, first } = own;
    let RootFiles { certificate: root, key: root_key } = RootFiles::beside(first);
    let (key, given, last) = match keyfile::credential_name(key) {
        None => (key.display().to_string(), "", "reload"),
        Some(name) => (
            format!("the file that the unit hands over as the credential {name}"),
            ", with --key and that file",
            "restart: a reload does not read a credential anew",
        ),
    };
    format!(
        "issue a new intermediate under the same root; the clients keep the root they trust:\n\
         1. move {} and {key} away\n\
         2. bring {} back from its safe place, beside {} (or say where it is with --root-key)\n\
         3. run `{init}` with this file{given}, and take the root's key away again\n\
         4. {last}",
        certificate.display(),
        root_key.display(),
        root.display(),
    )
}

#[cfg(test)]
#[path = "issuing_tests.rs"]
mod tests;
