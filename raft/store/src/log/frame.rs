//! Frames: one write group each, in a header that is checked before it is believed (WAL-02, WAL-03).
//!
//! ```text
//!   0       8         16         24            32       36      40             44            48
//!   | magic | segment | sequence | synced_upto | length | chain | payload CRC  | header CRC  | payload ...
//! ```
//!
//! Beyond what WAL-02 asks for, the header's checksum covers the frame's own offset, so that a frame
//! written to the wrong place is no frame; and `chain` repeats the header checksum of the frame before,
//! so that an old frame which reappears behind a new one (space reused after a torn tail was cut off)
//! does not join on.

use super::limits::MAX_FRAME_BYTES;
use crate::bytes_reader::BytesReader;
use crate::header::{StoredForm, VersionError};

/// Length of the header.
pub(crate) const FRAME_HEADER_BYTES: usize = 48;

/// First seven bytes of a frame; the eighth is the version of the form. Not text, so that no text that
/// a client sends starts a frame.
const MAGIC: [u8; 7] = [0xf5, b'Q', b'R', b'W', b'A', b'L', 0x9a];

/// The bytes before the header's own checksum.
const CHECKED_HEADER_BYTES: usize = FRAME_HEADER_BYTES - 4;

/// A frame's header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FrameHeader {
    /// The segment it belongs to.
    pub(crate) segment: u64,
    /// Counts frames across segments.
    pub(crate) sequence: u64,
    /// The offset in this segment known to be synced when the frame was written.
    pub(crate) synced_upto: u64,
    /// Length of the payload.
    pub(crate) length: usize,
    /// Header checksum of the frame before, 0 for the first of all.
    pub(crate) chain: u32,
    payload_crc: u32,
    /// Checksum of this header.
    pub(crate) header_crc: u32,
}

/// Why there is no valid frame at a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BadFrame {
    #[error("the file ends within a frame")]
    Short,
    #[error("there is no frame")]
    NoMagic,
    #[error(transparent)]
    Version(VersionError),
    #[error("the checksum of the frame's header does not match")]
    HeaderChecksum,
    #[error("the frame claims an impossible length or position")]
    Implausible,
    #[error("the checksum of the frame's content does not match")]
    PayloadChecksum,
}

/// Where a frame stands in the log, which its writer knows and its reader checks.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place {
    pub(crate) segment: u64,
    pub(crate) offset: u64,
    pub(crate) sequence: u64,
    pub(crate) chain: u32,
}

/// Makes the frame to be written at `place` from a buffer that begins with [`FRAME_HEADER_BYTES`] of
/// room for the header. Returns the header's checksum, for the next frame's `chain`.
pub(crate) fn seal(buffer: &mut [u8], place: Place, synced_upto: u64) -> u32 {
    let Some((header, payload)) = buffer.split_first_chunk_mut::<FRAME_HEADER_BYTES>() else {
        return 0;
    };
    let mut bytes = Vec::with_capacity(FRAME_HEADER_BYTES);
    bytes.extend_from_slice(&MAGIC);
    bytes.push(StoredForm::Log.current());
    bytes.extend_from_slice(&place.segment.to_le_bytes());
    bytes.extend_from_slice(&place.sequence.to_le_bytes());
    bytes.extend_from_slice(&synced_upto.to_le_bytes());
    bytes.extend_from_slice(&u32::try_from(payload.len()).unwrap_or(u32::MAX).to_le_bytes());
    bytes.extend_from_slice(&place.chain.to_le_bytes());
    bytes.extend_from_slice(&crc32c::crc32c(payload).to_le_bytes());
    let header_crc = header_checksum(&bytes, place.offset);
    bytes.extend_from_slice(&header_crc.to_le_bytes());
    header.copy_from_slice(&bytes);
    header_crc
}

fn header_checksum(checked: &[u8], offset: u64) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(checked), &offset.to_le_bytes())
}

/// Reads a header at `offset` of `segment`, believing nothing before its checksum holds.
pub(crate) fn read_header(content: &[u8], segment: u64, offset: u64) -> Result<FrameHeader, BadFrame> {
    let start = usize::try_from(offset).map_err(|_| BadFrame::Short)?;
    let bytes = content.get(start..).unwrap_or_default();
    let Some(header) = bytes.get(..FRAME_HEADER_BYTES) else {
        return Err(BadFrame::Short);
    };
    parse(header, segment, offset).unwrap_or(Err(BadFrame::Short))
}

fn parse(header: &[u8], segment: u64, offset: u64) -> Option<Result<FrameHeader, BadFrame>> {
    let mut reader = BytesReader::new(header);
    if reader.array()? != MAGIC {
        return Some(Err(BadFrame::NoMagic));
    }
    if let Err(error) = StoredForm::Log.check(reader.u8()?) {
        return Some(Err(BadFrame::Version(error)));
    }
    let found = FrameHeader {
        segment: reader.u64()?,
        sequence: reader.u64()?,
        synced_upto: reader.u64()?,
        length: usize::try_from(reader.u32()?).ok()?,
        chain: reader.u32()?,
        payload_crc: reader.u32()?,
        header_crc: reader.u32()?,
    };
    if header_checksum(header.get(..CHECKED_HEADER_BYTES)?, offset) != found.header_crc {
        return Some(Err(BadFrame::HeaderChecksum));
    }
    let plausible = found.segment == segment && found.synced_upto <= offset && found.length <= MAX_FRAME_BYTES;
    Some(if plausible { Ok(found) } else { Err(BadFrame::Implausible) })
}

/// Reads a whole frame: header first, then the payload that it vouches for.
pub(crate) fn read_frame(content: &[u8], segment: u64, offset: u64) -> Result<(FrameHeader, &[u8]), BadFrame> {
    let header = read_header(content, segment, offset)?;
    let start = usize::try_from(offset).map_err(|_| BadFrame::Short)? + FRAME_HEADER_BYTES;
    let payload = content.get(start..start + header.length).ok_or(BadFrame::Short)?;
    if crc32c::crc32c(payload) != header.payload_crc {
        return Err(BadFrame::PayloadChecksum);
    }
    Ok((header, payload))
}

/// Valid headers from `offset` on, wherever they stand: the evidence beyond a damaged place (WAL-10).
pub(crate) fn scan_headers(content: &[u8], segment: u64, offset: u64) -> impl Iterator<Item = FrameHeader> + '_ {
    let start = usize::try_from(offset).unwrap_or(usize::MAX).min(content.len());
    let rest = content.get(start..).unwrap_or_default();
    rest.windows(MAGIC.len())
        .enumerate()
        .filter(|(_, window)| *window == MAGIC)
        .filter_map(move |(place, _)| read_header(content, segment, (start + place) as u64).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLACE: Place = Place { segment: 3, offset: 16, sequence: 8, chain: 77 };

    fn frame() -> Vec<u8> {
        let mut buffer = vec![0; FRAME_HEADER_BYTES];
        buffer.extend_from_slice(b"payload");
        seal(&mut buffer, PLACE, 12);
        [vec![0; 16], buffer].concat()
    }

    #[test]
    fn wal_02_a_frame_comes_back_with_what_its_header_says() {
        let content = frame();
        let (header, payload) = read_frame(&content, 3, 16).unwrap();
        assert_eq!(payload, b"payload");
        assert_eq!((header.segment, header.sequence, header.synced_upto), (3, 8, 12));
        assert_eq!(header.chain, 77);
    }

    #[test]
    fn wal_03_a_flip_of_any_bit_of_a_frame_is_noticed() {
        let content = frame();
        for bit in 16 * 8..content.len() * 8 {
            let mut flipped = content.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(read_frame(&flipped, 3, 16).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn wal_03_a_length_is_not_believed_before_the_header_checksum_holds() {
        let mut content = frame();
        content[16 + 32..16 + 36].copy_from_slice(&u32::MAX.to_le_bytes());
        assert_eq!(read_frame(&content, 3, 16).unwrap_err(), BadFrame::HeaderChecksum);
    }

    #[test]
    fn wal_03_a_frame_in_another_place_or_segment_is_no_frame() {
        let content = frame();
        assert_eq!(read_frame(&content, 4, 16).unwrap_err(), BadFrame::Implausible);
        assert_eq!(read_frame(&content[1..], 3, 15).unwrap_err(), BadFrame::HeaderChecksum);
    }

    #[test]
    fn wal_10_the_scan_finds_headers_behind_anything() {
        let mut content = frame();
        content[0] = 0xf5;
        let found: Vec<_> = scan_headers(&content, 3, 0).collect();
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].synced_upto, 12);
    }
}
