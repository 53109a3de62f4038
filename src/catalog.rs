//! The catalogue: services that are known, on which hosts and for what, what must stay closed, and where each fact was read.
//!
//! It permits nothing by itself: a `[[service]]` takes hosts from it. Entries are data (`config/catalog`, in the program; a folder of
//! the site's own adds or replaces some), and `config` reads them. What may not be here: TOML, files, what a rule may be.

mod template;

use std::collections::BTreeMap;

pub use self::template::{PLACEHOLDER, Template, TemplateError, is_tenant_name};

/// The files of the program, by the names they are referred to.
pub static BUILT_IN: [(&str, &str); 20] = [
    // A literal table.
    ("adobe", include_str!("../config/catalog/adobe.toml")),
    ("aws-console", include_str!("../config/catalog/aws-console.toml")),
    ("box", include_str!("../config/catalog/box.toml")),
    ("chatgpt", include_str!("../config/catalog/chatgpt.toml")),
    ("claude", include_str!("../config/catalog/claude.toml")),
    ("defender", include_str!("../config/catalog/defender.toml")),
    ("dropbox", include_str!("../config/catalog/dropbox.toml")),
    ("github", include_str!("../config/catalog/github.toml")),
    ("google-cloud", include_str!("../config/catalog/google-cloud.toml")),
    ("google-workspace", include_str!("../config/catalog/google-workspace.toml")),
    ("intune", include_str!("../config/catalog/intune.toml")),
    ("kintone", include_str!("../config/catalog/kintone.toml")),
    ("microsoft-365", include_str!("../config/catalog/microsoft-365.toml")),
    ("revocation", include_str!("../config/catalog/revocation.toml")),
    ("salesforce", include_str!("../config/catalog/salesforce.toml")),
    ("slack", include_str!("../config/catalog/slack.toml")),
    ("webex", include_str!("../config/catalog/webex.toml")),
    ("windows-update-http", include_str!("../config/catalog/windows-update-http.toml")),
    ("windows-update", include_str!("../config/catalog/windows-update.toml")),
    ("zoom", include_str!("../config/catalog/zoom.toml")),
];

/// One service as people know it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub id: String,
    pub name: String,
    pub provider: String,
    pub category: &'static str,
    pub notes: Option<String>,
    /// At least one.
    pub parts: Vec<Part>,
    /// The file of the site's own that it was read from; `None`: it came with the program.
    pub file: Option<String>,
}

/// What of a service is permitted together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    pub id: String,
    pub title: String,
    pub purpose: &'static str,
    pub hosts: Vec<Template>,
    pub ports: Vec<u16>,
    /// Spoken in plain HTTP on these ports (revocation lists, updates).
    pub plain_http: bool,
    /// Tenant profiles that restrict it.
    pub profiles: Vec<String>,
    /// What is done instead where the vendor knows no restriction by header.
    pub no_profile: Option<String>,
    /// What of every account, not of one tenant, its hosts serve.
    pub shared_content: Option<String>,
    pub never_inspect: Vec<Exception>,
    pub notes: Option<String>,
    /// At least one.
    pub sources: Vec<Source>,
}

/// Hosts that break where their TLS is opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exception {
    pub hosts: Vec<Template>,
    pub why: Why,
    pub notes: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    CertificatePinned,
    ClientCertificate,
    VendorAsks,
}

impl Why {
    pub const ALL: [Self; 3] = [Self::CertificatePinned, Self::ClientCertificate, Self::VendorAsks];

    /// The word of the file.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::CertificatePinned => "certificate-pinned",
            Self::ClientCertificate => "client-certificate",
            Self::VendorAsks => "vendor-asks",
        }
    }

    /// As the end of "…, because".
    pub fn sentence(self) -> &'static str {
        match self {
            Self::CertificatePinned => "its clients accept the vendor's own certificate only",
            Self::ClientCertificate => "devices sign in there with a client certificate",
            Self::VendorAsks => "the vendor asks for it to be left closed",
        }
    }
}

/// Where a fact was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    pub url: String,
    /// `YYYY-MM-DD`.
    pub read: String,
    /// `H`: the vendor's own document or data; `M`: one other source; `L`: weak.
    pub confidence: &'static str,
}

pub static CATEGORIES: [&str; 13] = [
    "identity",
    "office",
    "chat",
    "meeting",
    "storage",
    "development",
    "business",
    "design",
    "ai",
    "cloud",
    "update",
    "security",
    "revocation",
];
pub static PURPOSES: [&str; 6] = ["sign-in", "application", "media", "cdn", "update", "revocation"];
pub static CONFIDENCES: [&str; 3] = ["H", "M", "L"];

/// Entries by their ids.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Catalogue {
    entries: BTreeMap<String, Entry>,
}

/// Why a reference such as `microsoft-365/sign-in` leads nowhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NotFound {
    /// Not two ids with a slash between them, though the entry is there: its parts.
    PartMissing(Vec<String>),
    Part(Vec<String>),
    /// The entries whose ids are near.
    Entry(Vec<String>),
}

impl Catalogue {
    /// Adds the entry, in place of one of the same id.
    pub fn put(&mut self, entry: Entry) {
        self.entries.insert(entry.id.clone(), entry);
    }

    /// By id.
    pub fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.entries.values()
    }

    pub fn entry(&self, id: &str) -> Option<&Entry> {
        self.entries.get(id)
    }

    /// The entries of the site's own, each with whether it stands in the place of one of the program's.
    pub fn own(&self) -> impl Iterator<Item = (&Entry, bool)> {
        let own = self.entries().filter(|entry| entry.file.is_some());
        own.map(|entry| (entry, BUILT_IN.iter().any(|(id, _)| *id == entry.id)))
    }

    /// # Errors
    /// What there is instead.
    pub fn part(&self, reference: &str) -> Result<(&Entry, &Part), NotFound> {
        let (id, part) = reference.split_once('/').map_or((reference, None), |(id, part)| (id, Some(part)));
        let Some(entry) = self.entries.get(id) else { return Err(NotFound::Entry(self.like(id))) };
        let parts = || entry.parts.iter().map(|part| format!("{id}/{}", part.id)).collect();
        let Some(part) = part else { return Err(NotFound::PartMissing(parts())) };
        let found = entry.parts.iter().find(|known| known.id == part);
        found.map(|part| (entry, part)).ok_or_else(|| NotFound::Part(parts()))
    }

    /// Every host that must not be inspected, with its entry and part.
    pub fn never_inspected(&self) -> impl Iterator<Item = (&Entry, &Part, &Exception)> {
        let parts = self.entries().flat_map(|entry| entry.parts.iter().map(move |part| (entry, part)));
        parts.flat_map(|(entry, part)| part.never_inspect.iter().map(move |exception| (entry, part, exception)))
    }

    /// Parts in which `words` all occur: in names, providers, titles or hosts, whatever the case of letters.
    pub fn search(&self, words: &[String]) -> Vec<(&Entry, &Part)> {
        let words: Vec<String> = words.iter().map(|word| word.to_lowercase()).collect();
        let parts = self.entries().flat_map(|entry| entry.parts.iter().map(move |part| (entry, part)));
        let holds = |entry: &Entry, part: &Part, word: &str| {
            let texts = [&entry.id, &entry.name, &entry.provider, &part.id, &part.title];
            texts.into_iter().any(|text| text.to_lowercase().contains(word))
                || [entry.category, part.purpose].contains(&word)
                || part.hosts.iter().any(|host| host.concerns(word))
        };
        parts.filter(|(entry, part)| words.iter().all(|word| holds(entry, part, word))).collect()
    }

    /// Ids that begin alike.
    fn like(&self, id: &str) -> Vec<String> {
        let head: String = id.to_lowercase().chars().take(3).collect();
        self.entries.keys().filter(|known| !head.is_empty() && known.contains(&head)).cloned().collect()
    }
}

#[cfg(test)]
mod tests;
