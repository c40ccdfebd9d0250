//! What happened, line by line, in virtual time: two runs of a seed must give the same lines (SIM-08).

use std::{
    fs::File,
    hash::Hasher,
    io::{self, BufWriter, Write},
    path::Path,
};

/// The lines of a run, as a hash and a count, and themselves where somebody wants to read them.
#[derive(Debug)]
pub(crate) struct Trace {
    hash: Fnv,
    count: u64,
    lines: Option<Vec<String>>,
}

impl Trace {
    /// An empty trace.
    pub(crate) fn new(keep_lines: bool) -> Self {
        Self { hash: Fnv(0xcbf2_9ce4_8422_2325), count: 0, lines: keep_lines.then(Vec::new) }
    }

    /// Adds a line.
    pub(crate) fn push(&mut self, line: String) {
        self.hash.write(line.as_bytes());
        self.hash.write(b"\n");
        self.count += 1;
        if let Some(lines) = &mut self.lines {
            lines.push(line);
        }
    }

    /// Hash and count in words; equal for equal traces.
    pub(crate) fn fingerprint(&self) -> String {
        format!("{:016x}/{}", self.hash.finish(), self.count)
    }

    /// Writes the lines, where they were kept.
    ///
    /// # Errors
    /// As the file system says.
    pub(crate) fn write_to(&self, path: &Path) -> io::Result<()> {
        let mut out = BufWriter::new(File::create(path)?);
        for line in self.lines.iter().flatten() {
            writeln!(out, "{line}")?;
        }
        out.flush()
    }
}

/// FNV-1a of 64 bits: the standard library's hasher is not the same in every process.
#[derive(Debug)]
struct Fnv(u64);

impl Hasher for Fnv {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }

    fn finish(&self) -> u64 {
        self.0
    }
}
