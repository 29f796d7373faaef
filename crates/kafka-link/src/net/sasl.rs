//! Logging in at a broker on a connection that is being opened: SaslHandshake and SaslAuthenticate
//! (KIP-43, KIP-84, KIP-152, KIP-368).
//!
//! A session that ends is not renewed: its connection is given nothing more a while before, and
//! another one is opened. So no request ever waits for, or fails by, a login in the middle.

use std::time::{Duration, Instant};

use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use bytes::Bytes;
use kafka_protocol::{
    messages::{SaslAuthenticateRequest, SaslAuthenticateResponse, SaslHandshakeRequest},
    protocol::StrBytes,
};
use pipeline_core::config::SaslMechanism;

use super::{
    CallError,
    connection::Connection,
    scram::{Begun, Hash},
    security::Login,
};

const UNSUPPORTED_MECHANISM: i16 = 33;
const ILLEGAL_STATE: i16 = 34;
const NONCE_BYTES: usize = 24;
/// Most of a broker's own words that are passed on.
const WORDS_MAX: usize = 200;

/// Logs in; gives when the session ends, where it does.
pub(super) async fn log_in(
    connection: &Connection,
    login: &Login,
    deadline: Instant,
) -> Result<Option<Instant>, CallError> {
    shake_hands(connection, login, deadline).await?;
    let began = Instant::now();
    let answer = match login.mechanism {
        SaslMechanism::Plain => {
            let message = format!("\0{}\0{}", login.username, login.password.reveal());
            authenticate(connection, login, message, deadline).await?
        }
        SaslMechanism::ScramSha256 => scram(connection, login, Hash::Sha256, deadline).await?,
        SaslMechanism::ScramSha512 => scram(connection, login, Hash::Sha512, deadline).await?,
    };
    let lifetime = u64::try_from(answer.session_lifetime_ms).unwrap_or(0);
    Ok((lifetime > 0).then(|| began + Duration::from_millis(lifetime)))
}

async fn shake_hands(
    connection: &Connection,
    login: &Login,
    deadline: Instant,
) -> Result<(), CallError> {
    let mechanism = login.mechanism.as_str();
    let request =
        SaslHandshakeRequest::default().with_mechanism(StrBytes::from_static_str(mechanism));
    let answer = connection.ask(&request, deadline).await?;
    let why = match answer.error_code {
        0 => return Ok(()),
        UNSUPPORTED_MECHANISM => {
            let enabled: Vec<_> = answer.mechanisms.iter().map(StrBytes::as_str).collect();
            format!(
                "its listener has not enabled the mechanism {mechanism} (kafka.sasl.mechanism), \
                 but {}",
                broker_words(&enabled.join(", "))
            )
        }
        ILLEGAL_STATE => "its listener does not use SASL: remove kafka.sasl, or name the port of \
                          a listener that does in kafka.brokers"
            .to_owned(),
        code => format!("it refused the SASL handshake (code {code})"),
    };
    Err(refused(connection, &why))
}

async fn scram(
    connection: &Connection,
    login: &Login,
    hash: Hash,
    deadline: Instant,
) -> Result<SaslAuthenticateResponse, CallError> {
    let mut nonce = [0; NONCE_BYTES];
    getrandom::fill(&mut nonce)
        .map_err(|error| CallError::unsent(format!("the system has no random bytes: {error}")))?;
    let begun = Begun::new(hash, &login.username, BASE64.encode(nonce));
    let answer = authenticate(connection, login, begun.first_message(), deadline).await?;
    let cheats = |why: String| refused(connection, &format!("SCRAM failed: {why}"));
    let password = login.password.clone();
    // Thousands of hashes, and so not on a thread that others' requests need.
    let answered =
        tokio::task::spawn_blocking(move || begun.answer(password.reveal(), &answer.auth_bytes));
    let (message, proof) = tokio::time::timeout_at(deadline.into(), answered)
        .await
        .map_err(|_| cheats("it asks for more than there was time for".to_owned()))?
        .unwrap_or_else(|error| Err(error.to_string()))
        .map_err(cheats)?;
    let answer = authenticate(connection, login, message, deadline).await?;
    proof.check(&answer.auth_bytes).map_err(cheats)?;
    Ok(answer)
}

async fn authenticate(
    connection: &Connection,
    login: &Login,
    message: String,
    deadline: Instant,
) -> Result<SaslAuthenticateResponse, CallError> {
    let request =
        SaslAuthenticateRequest::default().with_auth_bytes(Bytes::from(message.into_bytes()));
    let answer = connection.ask(&request, deadline).await?;
    if answer.error_code == 0 {
        return Ok(answer);
    }
    let words = answer.error_message.as_deref();
    let words = words.filter(|words| !words.is_empty());
    let words = words.unwrap_or("no reason given");
    let why = format!(
        "it refuses user `{}` ({}): {}: check kafka.sasl.username and the password",
        login.username,
        login.mechanism.as_str(),
        broker_words(words)
    );
    Err(refused(connection, &why))
}

fn refused(connection: &Connection, why: &str) -> CallError {
    CallError::refused(format!("broker {}: {why}", connection.peer()))
}

/// On one line and not too long, whatever it is that speaks.
fn broker_words(words: &str) -> String {
    words
        .chars()
        .take(WORDS_MAX)
        .flat_map(char::escape_debug)
        .collect()
}
