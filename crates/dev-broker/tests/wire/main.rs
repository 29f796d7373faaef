//! The broker over its own protocol, request by request, with the thinnest of clients.

mod batches;
mod client;

mod faults;
mod fetch;
mod groups;
mod process;
mod produce;
mod topics;
mod versions;
