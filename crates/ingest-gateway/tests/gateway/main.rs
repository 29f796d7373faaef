//! The gateway as its clients and Kafka see it: HTTP over sockets on one side, the embedded broker
//! on the other, a real directory for the dead letter queue.

mod harness;
#[path = "../common/topic.rs"]
mod topic;

mod answers;
mod auth;
mod bounds;
mod brokers;
mod dead_letters;
mod delivery;
mod disk;
mod drain;
mod error_codes;
mod faults;
mod gentle;
mod large;
mod long_bodies;
mod lookups;
mod oddities;
mod openapi;
mod rejects;
mod settings;
mod stuck;
mod tls;
mod waiting;
