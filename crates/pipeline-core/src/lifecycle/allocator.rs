//! How glibc's allocator is set, so that what a service counts as free is free.
//!
//! As it comes, it raises the size from which memory is given straight back to the system to up to
//! 32 MiB as it sees large blocks freed, and keeps what is below in up to eight arenas per core:
//! a gateway's bodies of some hundred KiB then leave holes that stay resident, and so do an
//! aggregator's tables of some MiB, each run of which may be another thread's.

/// Blocks of so many bytes are mapped and unmapped one by one, and as much unused at the end of the
/// heap is given back. To be called before there are other threads.
#[cfg(target_env = "gnu")]
#[expect(unsafe_code, reason = "the C library has no safe name for it")]
pub fn map_from(bytes: i32) {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let arenas = i32::try_from(cores).unwrap_or(i32::MAX);
    for (option, value) in [
        (libc::M_MMAP_THRESHOLD, bytes),
        (libc::M_TRIM_THRESHOLD, bytes),
        (libc::M_ARENA_MAX, arenas),
    ] {
        // SAFETY: takes two numbers and no pointer; nothing else runs yet.
        unsafe { libc::mallopt(option, value) };
    }
}

/// Other C libraries have no such setting.
#[cfg(not(target_env = "gnu"))]
pub fn map_from(_bytes: i32) {}
