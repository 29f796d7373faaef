//! ingest-gateway
pub mod decode;
