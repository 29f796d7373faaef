//! What a broken connection means where TLS and SASL are in play, in words that say what to do. Pure.

use std::io;

use rustls::{AlertDescription as Alert, CertificateError, Error};

/// How a connection was made.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Manner {
    pub tls: bool,
    /// With a certificate of ours.
    pub certified: bool,
    pub sasl: bool,
}

/// The first bytes of an answer that are a TLS record in truth: an alert, version 3.x.
const TLS_ALERT: [u8; 2] = [21, 3];

/// A handshake that ended so may have met a broker that stops, too.
pub(super) const NO_HANDSHAKE: &str = "it closed the connection at the TLS handshake: a listener \
     without TLS does that; remove kafka.tls, or name the port of a listener with TLS in \
     kafka.brokers";

/// What TLS says, if it was TLS.
pub(super) fn of_tls(error: &io::Error, certified: bool) -> Option<String> {
    let error = error.get_ref()?.downcast_ref::<Error>()?;
    Some(match error {
        Error::InvalidCertificate(why) => of_certificate(why),
        Error::AlertReceived(alert) => of_alert(*alert, certified),
        Error::InvalidMessage(_) => "it does not speak TLS: remove kafka.tls, or name the port of \
                                     a listener with TLS in kafka.brokers"
            .to_owned(),
        other => format!("TLS failed: {other}"),
    })
}

/// Whether an answer's length is a TLS record in truth.
pub(super) fn is_tls_record(length: i32) -> bool {
    length.to_be_bytes().starts_with(&TLS_ALERT)
}

pub(super) const SPEAKS_TLS: &str =
    "it speaks TLS: set kafka.tls, or name the port of a listener without TLS in kafka.brokers";

/// What a close may mean that came after so many answers.
pub(super) fn hint(manner: Manner, answers: usize) -> &'static str {
    match answers {
        0 if !manner.tls => {
            " before it answered anything: a listener with TLS does that (kafka.tls)"
        }
        1 | 2 if !manner.sasl => {
            " at the first request: a listener with SASL does that (kafka.sasl)"
        }
        _ => "",
    }
}

pub(super) fn is_end(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe
    )
}

fn of_certificate(why: &CertificateError) -> String {
    use CertificateError as E;
    match why {
        E::Expired | E::ExpiredContext { .. } => {
            format!("its certificate has expired ({why}): the broker needs a new one")
        }
        E::NotValidYet | E::NotValidYetContext { .. } => {
            format!("its certificate is not valid yet ({why}): is this machine's clock right?")
        }
        // Another authority of the same name is not trusted either.
        E::UnknownIssuer | E::BadSignature => {
            "its certificate is of an authority that is not trusted here: name \
                             that authority's certificate in kafka.tls.caFile"
                .to_owned()
        }
        E::NotValidForName | E::NotValidForNameContext { .. } => format!(
            "its certificate is for another host ({why}): use a name that it holds, in \
             kafka.brokers and in the broker's advertised.listeners, or give the broker another \
             certificate"
        ),
        other => format!("its certificate cannot be used: {other}"),
    }
}

fn of_alert(alert: Alert, certified: bool) -> String {
    match alert {
        Alert::CertificateRequired | Alert::NoCertificate => no_certificate(alert),
        Alert::BadCertificate
        | Alert::UnsupportedCertificate
        | Alert::CertificateRevoked
        | Alert::CertificateExpired
        | Alert::CertificateUnknown
        | Alert::UnknownCA
        | Alert::DecryptError
        | Alert::AccessDenied => {
            if certified {
                format!(
                    "it refuses our certificate ({alert:?}): kafka.tls.certFile must be valid now \
                     and of an authority that the broker trusts"
                )
            } else {
                no_certificate(alert)
            }
        }
        Alert::HandshakeFailure | Alert::ProtocolVersion | Alert::InsufficientSecurity => format!(
            "it and we have no TLS version or cipher in common ({alert:?}); ours are TLS 1.2 and \
             1.3"
        ),
        other => format!("it ended TLS ({other:?})"),
    }
}

fn no_certificate(alert: Alert) -> String {
    format!(
        "it wants a client certificate ({alert:?}): set kafka.tls.certFile and kafka.tls.keyFile"
    )
}
