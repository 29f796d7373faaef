//! The writer on the embedded broker and a real directory: what is produced is in the chains,
//! exactly once, whatever happens in between.

mod binary;
mod raw;
mod rig;

mod asking;
mod damaged;
mod deciding;
mod disk;
mod fixtures;
mod frozen;
mod groups;
mod halts;
mod hangs;
mod looking;
mod memory;
mod mounted;
mod namespace;
mod page;
mod power;
mod repairs;
mod shown;
mod snapshots;
mod starting;
mod strangers;
mod takeovers;
mod troubles;
mod verifying;
