//! The little of DER (X.690) that this crate writes and reads by hand.
//!
//! Writing is for what is made once per SVID, where a general encoder costs a third of the whole; reading is for the
//! outer shape of foreign documents, where we want to be stricter than the library that reads the rest: one encoding of
//! each length, nothing left over.

pub(crate) const BOOLEAN: u8 = 0x01;
pub(crate) const INTEGER: u8 = 0x02;
pub(crate) const BIT_STRING: u8 = 0x03;
pub(crate) const OCTET_STRING: u8 = 0x04;
pub(crate) const NULL: u8 = 0x05;
pub(crate) const OBJECT_IDENTIFIER: u8 = 0x06;
pub(crate) const ENUMERATED: u8 = 0x0a;
pub(crate) const PRINTABLE_STRING: u8 = 0x13;
pub(crate) const UTC_TIME: u8 = 0x17;
pub(crate) const GENERALIZED_TIME: u8 = 0x18;
pub(crate) const SEQUENCE: u8 = 0x30;
pub(crate) const SET: u8 = 0x31;
/// `[0]`, constructed.
pub(crate) const CONTEXT_0: u8 = 0xa0;
/// `[1]`, constructed.
pub(crate) const CONTEXT_1: u8 = 0xa1;
/// `[3]`, constructed.
pub(crate) const CONTEXT_3: u8 = 0xa3;

/// Appends tag, length and content.
pub(crate) fn write(out: &mut Vec<u8>, tag: u8, content: &[u8]) {
    write_header(out, tag, content.len());
    out.extend_from_slice(content);
}

/// Appends tag and length; the caller appends just so many bytes of content after it.
pub(crate) fn write_header(out: &mut Vec<u8>, tag: u8, length: usize) {
    out.push(tag);
    let bytes = length.to_be_bytes();
    if length < 0x80 {
        out.extend(bytes.last());
        return;
    }
    let significant = bytes.iter().skip_while(|byte| **byte == 0);
    out.push(0x80 | u8::try_from(significant.clone().count()).unwrap_or_default());
    out.extend(significant);
}

/// How many bytes [`write_header`] appends for a content of this length.
pub(crate) const fn header_length(length: usize) -> usize {
    if length < 0x80 {
        return 2;
    }
    let bits = usize::BITS.saturating_sub(length.leading_zeros());
    2usize.saturating_add(bits.div_ceil(8) as usize)
}

/// Appends an unsigned integer given as big-endian bytes, in its shortest form.
pub(crate) fn write_unsigned(out: &mut Vec<u8>, bytes: &[u8]) {
    let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
    let digits = bytes.get(zeros..).unwrap_or_default();
    match digits.first() {
        None => write(out, INTEGER, &[0]),
        Some(first) if *first >= 0x80 => {
            write_header(out, INTEGER, digits.len().saturating_add(1));
            out.push(0);
            out.extend_from_slice(digits);
        }
        Some(_) => write(out, INTEGER, digits),
    }
}

/// One element: tag, length, content.
pub(crate) fn element(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(header_length(content.len()).saturating_add(content.len()));
    write(&mut out, tag, content);
    out
}

/// One constructed element over the parts in order.
pub(crate) fn nested(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let length = parts.iter().fold(0usize, |sum, part| sum.saturating_add(part.len()));
    let mut out = Vec::with_capacity(header_length(length).saturating_add(length));
    write_header(&mut out, tag, length);
    for part in parts {
        out.extend_from_slice(part);
    }
    out
}

/// A reader over the elements of one constructed value. Every `None` means: not DER of that shape.
#[derive(Clone, Copy)]
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// The content of the next element, which must have this tag.
    pub(crate) fn read(&mut self, tag: u8) -> Option<&'a [u8]> {
        let (found, content, _) = self.next_element()?;
        (found == tag).then_some(content)
    }

    /// The whole next element with its header, which must have this tag.
    pub(crate) fn read_whole(&mut self, tag: u8) -> Option<&'a [u8]> {
        let (found, _, whole) = self.next_element()?;
        (found == tag).then_some(whole)
    }

    /// The content of the next element if it has this tag, else nothing is consumed.
    pub(crate) fn read_optional(&mut self, tag: u8) -> Option<&'a [u8]> {
        if self.rest.first() == Some(&tag) { self.read(tag) } else { None }
    }

    /// A reader over the content of the next element, which must have this tag.
    pub(crate) fn enter(&mut self, tag: u8) -> Option<Reader<'a>> {
        self.read(tag).map(Reader::new)
    }

    /// The digits of an INTEGER that is positive and in its shortest form, without the sign octet.
    pub(crate) fn read_unsigned(&mut self) -> Option<&'a [u8]> {
        match self.read(INTEGER)? {
            [0] => Some(&[]),
            [0, rest @ ..] => (*rest.first()? >= 0x80).then_some(rest),
            [first, ..] if *first >= 0x80 => None,
            digits => (!digits.is_empty()).then_some(digits),
        }
    }

    /// The bytes of a BIT STRING whose number of bits is a multiple of eight.
    pub(crate) fn read_bit_string(&mut self) -> Option<&'a [u8]> {
        match self.read(BIT_STRING)? {
            [0, bytes @ ..] => Some(bytes),
            _ => None,
        }
    }

    /// Whether everything has been read.
    pub(crate) const fn is_done(&self) -> bool {
        self.rest.is_empty()
    }

    /// Tag, content and whole of the next element. Tags above 30 and indefinite lengths, which nothing we read has, end
    /// here too.
    pub(crate) fn next_element(&mut self) -> Option<(u8, &'a [u8], &'a [u8])> {
        let input = self.rest;
        let (tag, after_tag) = input.split_first()?;
        if tag & 0x1f == 0x1f {
            return None;
        }
        let (first, after_first) = after_tag.split_first()?;
        let (length, body) = if *first < 0x80 {
            (usize::from(*first), after_first)
        } else {
            let count = usize::from(*first & 0x7f);
            // Four length octets say 4 GiB, more than any document here may have.
            if count == 0 || count > 4 {
                return None;
            }
            let (digits, body) = after_first.split_at_checked(count)?;
            let length = digits.iter().fold(0usize, |sum, digit| (sum << 8) | usize::from(*digit));
            if length < 0x80 || digits.first() == Some(&0) {
                return None;
            }
            (length, body)
        };
        let (content, rest) = body.split_at_checked(length)?;
        let whole = input.get(..input.len().checked_sub(rest.len())?)?;
        self.rest = rest;
        Some((*tag, content, whole))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_written_in_their_shortest_form_and_read_back() {
        for length in [0, 1, 0x7f, 0x80, 0xff, 0x100, 0xffff, 0x1_0000] {
            let content = vec![7; length];
            let bytes = element(OCTET_STRING, &content);
            assert_eq!(bytes.len(), header_length(length) + length);
            let mut reader = Reader::new(&bytes);
            assert_eq!(reader.read(OCTET_STRING), Some(content.as_slice()));
            assert!(reader.is_done());
        }
    }

    #[test]
    fn longer_forms_of_a_length_are_refused() {
        for bytes in [&[4, 0x81, 1, 7][..], &[4, 0x82, 0, 0x80], &[4, 0x80, 0, 0], &[4, 0x85, 0, 0, 0, 0, 1, 7]] {
            assert_eq!(Reader::new(bytes).read(OCTET_STRING), None, "{bytes:02x?}");
        }
    }

    #[test]
    fn integers_lose_zeros_and_get_a_sign_octet() {
        for (digits, wanted) in
            [(&[][..], &[2, 1, 0][..]), (&[0, 0], &[2, 1, 0]), (&[0, 5], &[2, 1, 5]), (&[0x80], &[2, 2, 0, 0x80])]
        {
            let mut out = Vec::new();
            write_unsigned(&mut out, digits);
            assert_eq!(out, wanted);
        }
        assert_eq!(Reader::new(&[2, 2, 0, 5]).read_unsigned(), None);
        assert_eq!(Reader::new(&[2, 1, 0x80]).read_unsigned(), None);
        assert_eq!(Reader::new(&[2, 2, 0, 0x80]).read_unsigned(), Some(&[0x80][..]));
    }
}
