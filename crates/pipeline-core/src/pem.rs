//! PEM files: certificates and private keys, each read whole up to a bound. Says what is wrong with
//! one, and shows nothing of a key.

use std::{fs::File, io::Read, path::Path};

use rustls_pki_types::{
    CertificateDer, PrivateKeyDer,
    pem::{self, PemObject},
};
use x509_parser::parse_x509_certificate;

/// Room for a system's bundle of authorities.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// # Errors
/// Where it cannot be read, or is too long.
pub fn read(file: &Path) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    File::open(file)
        .and_then(|file| file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes))
        .map_err(|error| format!("it cannot be read: {error}"))?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(format!("it is longer than {FILE_BYTES_MAX} bytes"));
    }
    Ok(bytes)
}

/// At least one.
///
/// # Errors
/// What is wrong.
pub fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match all {
        Ok(all) if all.is_empty() => Err("it holds no certificate".to_owned()),
        Ok(all) => Ok(all),
        Err(error) => Err(format!("it is not PEM: {error:?}")),
    }
}

/// When the first of them ends, seconds since 1970; never for what rustls will say that it cannot
/// read, and 0 for none.
#[must_use]
pub fn ends(chain: &[CertificateDer<'_>]) -> i64 {
    let ends = chain.iter().map(|certificate| {
        parse_x509_certificate(certificate).map_or(i64::MAX, |(_, parsed)| {
            parsed.validity.not_after.timestamp()
        })
    });
    ends.min().unwrap_or_default()
}

/// # Errors
/// What is wrong.
pub fn private_key(pem: &[u8]) -> Result<PrivateKeyDer<'static>, String> {
    PrivateKeyDer::from_pem_slice(pem).map_err(|error| match error {
        pem::Error::NoItemsFound if memchr::memmem::find(pem, b"ENCRYPTED").is_some() => {
            "its key is encrypted".to_owned()
        }
        pem::Error::NoItemsFound => "it holds no private key".to_owned(),
        // Nothing of a key is ever shown.
        _ => "it is not PEM".to_owned(),
    })
}
