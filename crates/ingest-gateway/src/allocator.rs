//! How glibc's allocator is set, so that what the memory budget counts as free is free.
//!
//! As it comes, it raises the size from which memory is given straight back to the system to up to
//! 32 MiB as it sees large blocks freed, and keeps what is below in up to eight arenas per core:
//! bodies of some hundred KiB then leave holes that stay resident.

/// Blocks of this size are mapped and unmapped one by one, and this much unused at the end of the
/// heap is given back. Measured with `cargo xtask overload --dev --budget 64 --connections 256`,
/// one run each: at 256 KiB a peak of 99 MiB and 58 MiB afterwards, at 1 MiB 120 and 102, left
/// alone 127 and 106; jemalloc 122 and 91.
#[cfg(target_env = "gnu")]
const MAPPED_FROM_BYTES: i32 = 256 * 1024;

/// Sets it; to be called before there are other threads.
#[cfg(target_env = "gnu")]
#[expect(unsafe_code, reason = "the C library has no safe name for it")]
pub fn set() {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let arenas = i32::try_from(cores).unwrap_or(i32::MAX);
    for (option, value) in [
        (libc::M_MMAP_THRESHOLD, MAPPED_FROM_BYTES),
        (libc::M_TRIM_THRESHOLD, MAPPED_FROM_BYTES),
        (libc::M_ARENA_MAX, arenas),
    ] {
        // SAFETY: takes two numbers and no pointer; nothing else runs yet.
        unsafe { libc::mallopt(option, value) };
    }
}

/// Other C libraries have no such setting.
#[cfg(not(target_env = "gnu"))]
pub fn set() {}
