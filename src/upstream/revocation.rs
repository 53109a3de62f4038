//! The files of certificate revocation lists: read, checked and dated. What they say of a certificate is webpki's to judge.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use rustls_pki_types::CertificateRevocationListDer;
use rustls_pki_types::pem::PemObject;
use x509_parser::prelude::{CertificateRevocationList, FromDer};

use super::certificate::{Stamp, wall};
use super::trust::{Stale, TrustError};
use crate::files::regular;

/// Largest file that is read; the largest lists of public CAs have some ten MiB.
const MAX_CRL: u64 = 64 << 20;

/// One CRL.
pub(super) struct Crl {
    pub(super) der: CertificateRevocationListDer<'static>,
    file: PathBuf,
    issuer: String,
    this_update: SystemTime,
    pub(super) next_update: SystemTime,
}

impl Crl {
    /// All CRLs of `file`, which is PEM (one or many) or DER (one), told apart by what is in it.
    pub(super) fn read_all(file: &Path) -> Result<Vec<Self>, TrustError> {
        let broken = |what: String| TrustError { file: Some(file.to_owned()), what };
        let bytes = regular(file, MAX_CRL).map_err(|error| broken(format!("cannot be read: {error}")))?;
        let ders: Vec<CertificateRevocationListDer<'static>> = if is_pem(&bytes) {
            let sections: Result<Vec<_>, _> = CertificateRevocationListDer::pem_slice_iter(&bytes).collect();
            sections.map_err(|error| broken(format!("is not well-formed PEM: {error}")))?
        } else {
            vec![CertificateRevocationListDer::from(bytes)]
        };
        if ders.is_empty() {
            return Err(broken("holds PEM, but no \"X509 CRL\" section".into()));
        }
        ders.into_iter().map(|der| Self::read(file, der).map_err(broken)).collect()
    }

    fn read(file: &Path, der: CertificateRevocationListDer<'static>) -> Result<Self, String> {
        let (_, parsed) = CertificateRevocationList::from_der(&der)
            .map_err(|error| format!("is not a certificate revocation list in PEM or DER form ({error})"))?;
        let next_update = parsed.next_update().ok_or("has no nextUpdate, which RFC 5280 requires")?;
        webpki::OwnedCertRevocationList::from_der(&der).map_err(|error| match error {
            webpki::Error::UnsupportedDeltaCrl => "is a delta CRL; only full CRLs are read".into(),
            webpki::Error::UnsupportedIndirectCrl => "is an indirect CRL, which is not read".into(),
            webpki::Error::UnsupportedCriticalExtension => {
                "has a critical extension that is not known here, so that it cannot be understood".into()
            }
            webpki::Error::UnsupportedCrlIssuingDistributionPoint
            | webpki::Error::UnsupportedRevocationReasonsPartitioning => {
                "covers only some reasons, or its issuingDistributionPoint has no URI: such a CRL is not read; ask the CA \
                 for its full one"
                    .into()
            }
            other => format!("is not a certificate revocation list as RFC 5280 has it ({other})"),
        })?;
        let (issuer, this_update, next_update) =
            (parsed.issuer().to_string(), wall(parsed.last_update()), wall(next_update));
        Ok(Self { der, file: file.to_owned(), issuer, this_update, next_update })
    }

    /// What an administrator should hear of it at load.
    pub(super) fn warning(&self, now: SystemTime, stale: Stale) -> Option<String> {
        let (file, issuer) = (self.file.display(), &self.issuer);
        if self.next_update <= now {
            let effect = match stale {
                Stale::Deny => "certificates of that issuer are refused (crl_stale = \"deny\")",
                Stale::Allow => "it is used as it is (crl_stale = \"allow\")",
            };
            let date = Stamp::from(self.next_update);
            return Some(format!("{file}: the CRL of {issuer} is past its nextUpdate {date}: {effect}; fetch it anew"));
        }
        let date = Stamp::from(self.this_update);
        let early = self.this_update > now;
        early.then(|| {
            format!("{file}: the CRL of {issuer} is dated {date}, which is in the future; is the clock right?")
        })
    }
}

/// The newest first: webpki takes the first that speaks of a certificate, and a directory may still hold last week's.
pub(super) fn newest_first(crls: &mut [Crl]) {
    crls.sort_by_key(|crl| std::cmp::Reverse(crl.this_update));
}

fn is_pem(bytes: &[u8]) -> bool {
    memchr::memmem::find(bytes, b"-----BEGIN ").is_some()
}
