//! From the queue to Kafka: workers, the sender they share, and what it knows of the topic.
//!
//! Pure: [`outcome`] (what a failure means), [`circuit`] (is it worth asking), [`load`] (what goes
//! together), [`flight`] (how much is on its way). Acting: [`worker`] (queue → loads), [`send`]
//! (loads → Kafka), [`settle`] (→ client or dead letter queue), [`spare`] (what a panic leaves), [`link`] (keeps [`view`] true).

pub mod circuit;
pub mod drain;
pub mod flight;
pub mod link;
pub mod load;
pub mod outcome;
pub mod send;
pub mod settle;
pub mod spare;
pub mod view;
pub mod worker;
