//! The supplementary groups of a socket's peer, as the kernel noted them when it connected.
//!
//! This is the one place with unsafe code: no safe crate wraps `SO_PEERGROUPS`.
#![expect(unsafe_code, reason = "getsockopt(SO_PEERGROUPS) has no safe wrapper in nix or rustix")]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// Room for the groups of the usual process; one call is then enough.
const USUAL_GROUPS: usize = 64;

/// The kernel's own bound on the groups of a process (`NGROUPS_MAX` of Linux since 2.6.4).
pub(super) const MOST_GROUPS: usize = 65_536;

/// Asks the kernel for the peer's supplementary groups, in the kernel's order.
///
/// # Errors
/// What `getsockopt` says; `ENOPROTOOPT` on kernels before 4.13.
pub(super) fn supplementary_groups(socket: BorrowedFd<'_>) -> io::Result<Vec<u32>> {
    let mut groups: Vec<libc::gid_t> = vec![0; USUAL_GROUPS];
    loop {
        let room = size_of_val(groups.as_slice());
        let mut length = libc::socklen_t::try_from(room).unwrap_or(libc::socklen_t::MAX);
        // SAFETY: the pointer is valid for writes of `length` bytes, which is at most the size of
        // the vector's initialised elements; the kernel writes at most that many and every bit
        // pattern is a gid_t. The descriptor is open for as long as it is borrowed.
        let outcome = unsafe {
            libc::getsockopt(
                socket.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_PEERGROUPS,
                groups.as_mut_ptr().cast(),
                &raw mut length,
            )
        };
        let count = usize::try_from(length).unwrap_or(0) / size_of::<libc::gid_t>();
        if outcome == 0 {
            groups.truncate(count);
            return Ok(groups);
        }
        let error = io::Error::last_os_error();
        // ERANGE: the kernel has put the length it needs where ours was.
        let larger_helps = count > groups.len() && count <= MOST_GROUPS;
        if error.raw_os_error() != Some(libc::ERANGE) || !larger_helps {
            return Err(error);
        }
        groups.resize(count, 0);
    }
}
