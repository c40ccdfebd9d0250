//! The system's randomness and clocks, as the simulation's own process sees them (SIM-08).
//!
//! Two things reach the code of the cluster around every seam: Tokio draws the order in which it wakes those who wait on one
//! `watch` channel, and the hash maps of the standard library their keys, both from `getrandom`. And whatever looked at a
//! real clock would go unnoticed on an idle machine. So this program has these two functions of the C library itself. While
//! nothing is faked they do what the library does.

#![expect(unsafe_code, reason = "the C library's functions take pointers, and no crate offers to stand in for them")]

use super::readers;
use std::ffi::{c_int, c_uint, c_void};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// The clocks that may go too fast.
const CLOCKS: [libc::clockid_t; 2] = [libc::CLOCK_MONOTONIC, libc::CLOCK_REALTIME];

/// Nanoseconds in a second.
const SECOND: i128 = 1_000_000_000;

/// Whether random bytes come from a counter.
static IS_FAKED: AtomicBool = AtomicBool::new(false);

/// How many words were drawn from the counter.
static DRAWN: AtomicU64 = AtomicU64::new(0);

/// How many times as fast as they should the clocks go, and what each showed when they began to.
static PACE: OnceLock<(i64, [i128; CLOCKS.len()])> = OnceLock::new();

/// From here on this process draws the same "random" bytes as every other one, and its clocks go `speed` times as fast as
/// they should. Threads that drew before keep what they drew: the simulation runs in one that is new.
pub(crate) fn fake(speed: i64) {
    let begins = CLOCKS.map(|clock| {
        let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        clock_gettime(clock, &raw mut time);
        nanoseconds(&time)
    });
    PACE.get_or_init(|| (speed.max(1), begins));
    IS_FAKED.store(true, Ordering::SeqCst);
}

/// `getrandom(2)`.
#[unsafe(no_mangle)]
extern "C" fn getrandom(buffer: *mut c_void, length: usize, flags: c_uint) -> isize {
    if !IS_FAKED.load(Ordering::SeqCst) {
        // SAFETY: the caller's arguments, handed on to the call that they are meant for.
        let read = unsafe { libc::syscall(libc::SYS_getrandom, buffer, length, flags) };
        return isize::try_from(read).unwrap_or(-1);
    }
    // SAFETY: the caller says that so many bytes may be written there, as it would to the C library.
    let bytes = unsafe { std::slice::from_raw_parts_mut(buffer.cast::<u8>(), length) };
    for chunk in bytes.chunks_mut(8) {
        let word = DRAWN.fetch_add(1, Ordering::SeqCst).wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let word = (word ^ (word >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        chunk.iter_mut().zip(word.to_le_bytes()).for_each(|(to, from)| *to = from);
    }
    isize::try_from(length).unwrap_or(-1)
}

/// `clock_gettime(2)`.
#[unsafe(no_mangle)]
extern "C" fn clock_gettime(clock: libc::clockid_t, time: *mut libc::timespec) -> c_int {
    // SAFETY: the caller's arguments, handed on to the call that they are meant for.
    let result = unsafe { libc::syscall(libc::SYS_clock_gettime, clock, time) };
    let begins = CLOCKS.iter().position(|faked| *faked == clock);
    if let (0, Some(begins), Some((speed, at))) = (result, begins, PACE.get()) {
        readers::note();
        // SAFETY: the system has just written to it.
        let time = unsafe { &mut *time };
        let begin = at.get(begins).copied().unwrap_or_default();
        let faked = begin + (nanoseconds(time) - begin) * i128::from(*speed);
        time.tv_sec = libc::time_t::try_from(faked / SECOND).unwrap_or(libc::time_t::MAX);
        time.tv_nsec = libc::c_long::try_from(faked % SECOND).unwrap_or(0);
    }
    c_int::try_from(result).unwrap_or(-1)
}

fn nanoseconds(time: &libc::timespec) -> i128 {
    i128::from(time.tv_sec) * SECOND + i128::from(time.tv_nsec)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sim_08_a_process_with_nothing_faked_has_the_systems_randomness_and_clock() {
        let mut drawn = [[0_u8; 16]; 2];
        for bytes in &mut drawn {
            assert_eq!(getrandom(bytes.as_mut_ptr().cast(), bytes.len(), 0), 16);
        }
        assert_ne!(drawn[0], drawn[1]);
        let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        assert_eq!(clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time), 0);
        assert!(time.tv_sec > 0 || time.tv_nsec > 0);
    }
}
