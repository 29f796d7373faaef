//! The writer on the embedded broker and a real directory: what is produced is in the chains,
//! exactly once, whatever happens in between.

mod raw;
mod rig;

<<<<<<< HEAD
mod disk;
mod frozen;
mod groups;
mod halts;
mod hangs;
mod memory;
mod mounted;
mod namespace;
mod power;
=======
mod deciding;
mod groups;
mod halts;
mod looking;
>>>>>>> 31d4543 (verify in parallel, of a topic or partition, with Kafka at hand; segments ls|cat; consumer dlq list|show|replay; chaos writer ends the writer at every step; docs/store.md)
mod repairs;
mod snapshots;
mod strangers;
mod takeovers;
mod troubles;
mod verifying;
