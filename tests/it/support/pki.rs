//! Only the test's certificate authority for origins belongs here: good leaves, and leaves with every defect a scene asks for.

use std::sync::{Arc, OnceLock};

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, GeneralSubtree, IsCa, KeyIdMethod, KeyPair, KeyUsagePurpose, NameConstraints,
    RevokedCertParams, SerialNumber,
};
use rustls::RootCertStore;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use time::{Duration, OffsetDateTime};

/// What is wrong with a leaf or its chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Defect {
    None,
    Expired,
    NotYetValid,
    SelfSigned,
    UnknownIssuer,
    MissingIntermediate,
    /// The name stands in the subject's common name, and nowhere else.
    CommonNameOnly,
    /// Extended key usage clientAuth alone.
    ClientAuthOnly,
    /// The issuer is no CA.
    IssuerNotCa,
    /// The issuing CA is constrained to another domain.
    OutsideConstraints,
    /// Signed properly, with the serial number [`REVOKED`].
    Revoked,
}

pub const REVOKED: [u8; 4] = [0x7e, 0x57, 0x0b, 0xad];

pub struct Leaf {
    pub chain: Vec<CertificateDer<'static>>,
    pub key: PrivateKeyDer<'static>,
}

type Issuer = CertifiedIssuer<'static, KeyPair>;

struct Pki {
    root: Issuer,
    intermediate: Issuer,
    stranger: Issuer,
    not_a_ca: Issuer,
    constrained: Issuer,
}

fn pki() -> &'static Pki {
    static PKI: OnceLock<Pki> = OnceLock::new();
    PKI.get_or_init(|| {
        let key = || KeyPair::generate().expect("key");
        let root = Issuer::self_signed(authority("test root"), key()).expect("root");
        let intermediate = Issuer::signed_by(authority("test intermediate"), key(), &root).expect("intermediate");
        let stranger = Issuer::self_signed(authority("a stranger"), key()).expect("stranger");
        let mut params = authority("not a CA");
        params.is_ca = IsCa::ExplicitNoCa;
        let not_a_ca = Issuer::signed_by(params, key(), &root).expect("not a CA");
        let mut params = authority("constrained");
        params.name_constraints = Some(NameConstraints {
            permitted_subtrees: vec![GeneralSubtree::DnsName("elsewhere.test".into())],
            excluded_subtrees: vec![],
        });
        let constrained = Issuer::signed_by(params, key(), &root).expect("constrained");
        Pki { root, intermediate, stranger, not_a_ca, constrained }
    })
}

fn authority(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = named(name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.not_before = OffsetDateTime::now_utc() - Duration::days(30);
    params.not_after = OffsetDateTime::now_utc() + Duration::days(365);
    params
}

fn named(name: &str) -> DistinguishedName {
    let mut subject = DistinguishedName::new();
    subject.push(DnType::CommonName, name);
    subject
}

/// A leaf for `names` with one `defect`.
pub fn leaf(names: &[&str], defect: Defect) -> Leaf {
    let pki = pki();
    let key = KeyPair::generate().expect("key");
    let sans: Vec<String> =
        if defect == Defect::CommonNameOnly { vec![] } else { names.iter().map(ToString::to_string).collect() };
    let mut params = CertificateParams::new(sans).expect("names");
    params.distinguished_name = named(names.first().copied().unwrap_or("nobody"));
    params.extended_key_usages = vec![match defect {
        Defect::ClientAuthOnly => ExtendedKeyUsagePurpose::ClientAuth,
        _ => ExtendedKeyUsagePurpose::ServerAuth,
    }];
    let now = OffsetDateTime::now_utc();
    (params.not_before, params.not_after) = match defect {
        Defect::Expired => (now - Duration::days(20), now - Duration::days(1)),
        Defect::NotYetValid => (now + Duration::days(1), now + Duration::days(20)),
        _ => (now - Duration::days(2), now + Duration::days(20)),
    };
    params.use_authority_key_identifier_extension = true;
    if defect == Defect::Revoked {
        params.serial_number = Some(SerialNumber::from_slice(&REVOKED));
    }
    let issuer = match defect {
        Defect::UnknownIssuer => &pki.stranger,
        Defect::IssuerNotCa => &pki.not_a_ca,
        Defect::OutsideConstraints => &pki.constrained,
        _ => &pki.intermediate,
    };
    let mut chain = vec![if defect == Defect::SelfSigned {
        params.self_signed(&key).expect("self-signed").der().clone()
    } else {
        params.signed_by(&key, issuer).expect("leaf").der().clone()
    }];
    if !matches!(defect, Defect::SelfSigned | Defect::MissingIntermediate) {
        chain.push(issuer.der().clone());
    }
    Leaf { chain, key: PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der())) }
}

/// The root of the good leaves, as PEM.
pub fn root_pem() -> String {
    pki().root.pem()
}

/// A root nobody's leaf hangs from.
pub fn stranger_pem() -> String {
    pki().stranger.pem()
}

/// Who signs a CRL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signer {
    /// The issuer of the good leaves.
    Intermediate,
    /// Somebody of the same name.
    Impostor,
    Stranger,
}

/// The issuer of the good leaves.
pub fn intermediate_pem() -> String {
    pki().intermediate.pem()
}

/// A CRL of the intermediate with [`REVOKED`] on it, next due `next_update` from now.
pub fn crl_pem(next_update: Duration) -> String {
    crl(Signer::Intermediate, Duration::days(-10), next_update)
}

/// The same by `signer`, of `this_update` from now.
pub fn crl(signer: Signer, this_update: Duration, next_update: Duration) -> String {
    let now = OffsetDateTime::now_utc();
    let params = CertificateRevocationListParams {
        this_update: now + this_update,
        next_update: now + next_update,
        crl_number: SerialNumber::from_slice(&[1]),
        issuing_distribution_point: None,
        revoked_certs: vec![RevokedCertParams {
            serial_number: SerialNumber::from_slice(&REVOKED),
            revocation_time: now - Duration::days(11),
            reason_code: None,
            invalidity_date: None,
        }],
        key_identifier_method: KeyIdMethod::Sha256,
    };
    let impostor = || {
        let key = KeyPair::generate().expect("key");
        Issuer::signed_by(authority("test intermediate"), key, &pki().stranger).expect("an impostor")
    };
    let crl = match signer {
        Signer::Intermediate => params.signed_by(&pki().intermediate),
        Signer::Impostor => params.signed_by(&impostor()),
        Signer::Stranger => params.signed_by(&pki().stranger),
    };
    crl.expect("crl").pem().expect("pem")
}

pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

/// A store of the certificates in `pem`.
pub fn store(pem: &str) -> RootCertStore {
    use rustls::pki_types::pem::PemObject;
    let mut store = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
        store.add(certificate.expect("a certificate")).expect("a root");
    }
    store
}
