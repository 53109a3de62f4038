//! What stands in every leaf: one name, serverAuth, days (J04).

use rcgen::{CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, KeyUsagePurpose, SanType};
use time::{Duration, OffsetDateTime};

use super::certificate::CaCertificate;
use super::issuer::{MintError, signing_failed};
use super::signing;
use crate::names::DnsName;

/// A leaf begins this long before it is made, for clients whose clock is behind.
const BACKDATED: Duration = Duration::hours(1);
/// From a leaf's first second to its last: far below the 47 days that browsers will come to allow, and a leaf is only ever
/// kept for half of it.
const LIFETIME: Duration = Duration::days(14);
/// ub-common-name of RFC 5280 appendix A.1. A longer name is in the SAN only, and the subject empty.
const MAX_COMMON_NAME: usize = 64;

/// Within the CA's own validity; both ends count, hence the second less.
pub(super) fn leaf_validity(
    ca: &CaCertificate,
    now: OffsetDateTime,
) -> Result<(OffsetDateTime, OffsetDateTime), MintError> {
    let CaCertificate { not_before, not_after, .. } = *ca;
    ca.check_validity(now).map_err(|_| MintError::CaNotValid { not_before, not_after })?;
    let begin = now.saturating_sub(BACKDATED).max(not_before);
    let end = begin.saturating_add(LIFETIME - Duration::SECOND).min(not_after);
    Ok((whole_second(begin), whole_second(end)))
}

pub(super) fn leaf_params(
    ca: &CaCertificate,
    name: &DnsName,
    not_before: OffsetDateTime,
    not_after: OffsetDateTime,
) -> Result<CertificateParams, MintError> {
    let mut params = CertificateParams::default();
    params.not_before = not_before;
    params.not_after = not_after;
    params.serial_number = Some(signing::serial_number().map_err(signing_failed)?);
    params.distinguished_name = DistinguishedName::new();
    if name.as_str().len() <= MAX_COMMON_NAME && !ca.constraints.restrict_subjects() {
        params.distinguished_name.push(DnType::CommonName, name.as_str());
    }
    params.subject_alt_names = vec![SanType::DnsName(name.as_str().try_into().map_err(signing_failed)?)];
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;
    Ok(params)
}

/// A certificate's times have whole seconds; so has the [leaf](super::issuer::Leaf) that tells of them.
fn whole_second(time: OffsetDateTime) -> OffsetDateTime {
    time.replace_nanosecond(0).unwrap_or(time)
}
