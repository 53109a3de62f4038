//! Host patterns with a place for the name of a tenant: `{tenant}.sharepoint.com`.

use std::fmt;

use crate::names::DnsName;
use crate::policy::{HostPattern, PatternError};

/// What stands for the tenant's name.
pub const PLACEHOLDER: &str = "{tenant}";
/// In its place where only the shape counts.
const PROBE: &str = "sekisho-probe";

/// A host pattern, or one that a tenant's name makes to one.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Template(String);

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    #[error("{0}")]
    Pattern(#[from] PatternError),
    #[error("\"{{tenant}}\" stands once in a pattern, and is the only thing braces are for")]
    Braces,
    #[error("the pattern has a place for the name of a tenant (\"{{tenant}}\"), and none is given")]
    NoTenant,
}

impl Template {
    /// # Errors
    /// [`TemplateError`]: no tenant's name could make it a host pattern.
    pub fn parse(text: &str) -> Result<Self, TemplateError> {
        let filled = text.replacen(PLACEHOLDER, PROBE, 1);
        if filled.contains(['{', '}']) {
            return Err(TemplateError::Braces);
        }
        let pattern = HostPattern::parse(&filled)?;
        // In normal form already, so that equal ones are equal.
        let normal =
            if filled == text { pattern.as_str().to_owned() } else { pattern.as_str().replace(PROBE, PLACEHOLDER) };
        Ok(Self(normal))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub fn needs_tenant(&self) -> bool {
        self.0.contains(PLACEHOLDER)
    }

    /// # Errors
    /// [`TemplateError::NoTenant`]; a name that is none ([`is_tenant_name`]) does not get as far as here.
    pub fn fill(&self, tenant: Option<&str>) -> Result<HostPattern, TemplateError> {
        match (self.needs_tenant(), tenant) {
            (false, _) => Ok(HostPattern::parse(&self.0)?),
            (true, Some(tenant)) => Ok(HostPattern::parse(&self.0.replace(PLACEHOLDER, tenant))?),
            (true, None) => Err(TemplateError::NoTenant),
        }
    }

    /// Whether the word is in it, or is a name it matches; with a tenant's name left open.
    pub(super) fn concerns(&self, word: &str) -> bool {
        let matches = |name: &DnsName| {
            let open = HostPattern::parse(&self.0.replace(PLACEHOLDER, "*"));
            open.is_ok_and(|pattern| pattern.matches(name))
        };
        self.0.contains(word)
            || (word.contains('.') && DnsName::parse(word.as_bytes()).is_ok_and(|name| matches(&name)))
    }
}

impl From<&HostPattern> for Template {
    fn from(pattern: &HostPattern) -> Self {
        Self(pattern.as_str().to_owned())
    }
}

impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The name of a tenant as it stands within a label: letters, digits and hyphens within.
pub fn is_tenant_name(text: &str) -> bool {
    let inside = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    (1..=48).contains(&text.len()) && text.bytes().all(inside) && !text.starts_with('-') && !text.ends_with('-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_template_is_a_pattern_but_for_the_name_of_a_tenant() {
        for (text, tenant, expected) in [
            ("{tenant}.sharepoint.com", Some("city"), Ok("city.sharepoint.com")),
            ("{tenant}-my.SharePoint.com.", Some("city-x"), Ok("city-x-my.sharepoint.com")),
            ("*.{tenant}.my.salesforce.com", Some("a"), Ok("*.a.my.salesforce.com")),
            ("{tenant}.sharepoint.com", None, Err(TemplateError::NoTenant)),
            ("*cdn.onenote.net", None, Ok("*cdn.onenote.net")),
            ("slack.com", Some("city"), Ok("slack.com")),
        ] {
            let template = Template::parse(text).expect(text);
            let filled = template.fill(tenant);
            assert_eq!(filled.as_ref().map(HostPattern::as_str), expected.as_ref().copied(), "{text}");
            assert_eq!(template.needs_tenant(), text.contains('{'));
        }
        for text in ["{tenant}.{tenant}.com", "{name}.example.com", "{tenant.example.com", "a b.com", "", "10.0.0.1"] {
            assert!(Template::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn names_of_tenants_and_their_neighbours() {
        for name in ["city", "city-of-x", "a", "0", &"a".repeat(48)] {
            assert!(is_tenant_name(name), "{name}");
        }
        for name in ["", "-a", "a-", "a.b", "*", "A", "市", "a_b", "{tenant}", &"a".repeat(49)] {
            assert!(!is_tenant_name(name), "{name}");
        }
    }
}
