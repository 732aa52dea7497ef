//! The first page of an artifact: what it is, and where its sections lie.
//!
//! In: 4096 bytes and the length of the file, or the facts to write. Out: a [`Header`], or the bytes. It upholds that a
//! header that decodes names known sections, each once and in order, that lie in the file without overlap, and that its
//! own sum is right.
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use super::sum;
use crate::generated::artifact::*;

/// Bytes of the header, as Rust counts.
pub const BYTES: usize = HEADER_BYTES as usize;

/// A section of an artifact.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Section {
    /// What it holds.
    pub kind: Kind,
    /// Where it starts, from the start of the artifact.
    pub offset: u64,
    /// Its length.
    pub bytes: u64,
    /// XXH3-64 of its bytes; of weights, of their sums.
    pub sum: u64,
}

impl Section {
    /// The byte behind it. A decoded header has no section that overflows.
    pub fn end(&self) -> u64 {
        self.offset.saturating_add(self.bytes)
    }
}

/// What the first page says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Header {
    /// Bytes of the whole artifact.
    pub file_bytes: u64,
    /// The architecture, as ELF numbers it.
    pub arch: u32,
    /// `FEATURE_` bits that the code needs at least.
    pub features: u32,
    /// The version of the C ABI.
    pub abi_version: u32,
    /// SHA-256 of the list of the checkpoint's files.
    pub checkpoint: [u8; 32],
    /// In the order in which they lie.
    pub sections: Vec<Section>,
}

/// Why a header does not decode: which part, where, what is there, what should be.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Fault {
    /// It is something else; what, in words.
    Label(String),
    /// Its layout has another version.
    Version(u32),
    /// It contradicts itself, its sum or the file.
    Damaged {
        /// Which part.
        what: String,
        /// Where, from the start of the artifact.
        offset: u64,
        /// What is there.
        found: String,
        /// What should be.
        expected: String,
    },
}

fn damaged<T>(what: &str, offset: usize, found: impl ToString, expected: impl ToString) -> Result<T, Fault> {
    let (found, expected) = (found.to_string(), expected.to_string());
    Err(Fault::Damaged { what: what.to_owned(), offset: offset as u64, found, expected })
}

/// The number at a place of the page; 0 behind its end, where no field lies.
fn get_u32(page: &[u8], at: usize) -> u32 {
    page.get(at..).and_then(|rest| rest.first_chunk()).map_or(0, |bytes| u32::from_le_bytes(*bytes))
}

fn get_u64(page: &[u8], at: usize) -> u64 {
    page.get(at..).and_then(|rest| rest.first_chunk()).map_or(0, |bytes| u64::from_le_bytes(*bytes))
}

fn put(page: &mut [u8], at: usize, bytes: &[u8]) {
    if let Some(place) = page.get_mut(at..).and_then(|rest| rest.get_mut(..bytes.len())) {
        place.copy_from_slice(bytes);
    }
}

/// Where entry `index` of the table starts. Tables are short.
fn entry_at(index: usize) -> usize {
    (ENTRY_BYTES as usize).saturating_mul(index).saturating_add(TABLE_OFFSET as usize)
}

impl Header {
    /// Reads the first page of a file, or as much of it as the file has, of `available_bytes` from the start of the artifact.
    ///
    /// # Errors
    /// The first thing that is wrong, in the order: label, version, byte order, length, sum, sections.
    pub fn decode(page: &[u8], available_bytes: u64) -> Result<Header, Fault> {
        let label: Vec<u8> = page.iter().copied().take(LABEL.len()).collect();
        if label != LABEL {
            let shown: Vec<String> = label.iter().map(|b| format!("{b:02x}")).collect();
            return Err(Fault::Label(match label.is_empty() {
                true => "it is empty".to_owned(),
                false => format!("it begins with the bytes {}", shown.join(" ")),
            }));
        }
        if page.len() < BYTES {
            return damaged("the header", 0, format!("{} bytes", page.len()), format!("{BYTES} bytes"));
        }
        let version = get_u32(page, AT_VERSION);
        if version != VERSION {
            return Err(Fault::Version(version));
        }
        let order = get_u32(page, AT_BYTE_ORDER);
        if order != BYTE_ORDER {
            return damaged("the byte order", AT_BYTE_ORDER, format!("{order:#010x}"), format!("{BYTE_ORDER:#010x}"));
        }
        let mut summed = page.get(..BYTES).unwrap_or_default().to_vec();
        put(&mut summed, AT_HEADER_SUM, &[0; 8]);
        let (found, expected) = (sum(&summed), get_u64(page, AT_HEADER_SUM));
        if found != expected {
            return damaged("the sum of the header", AT_HEADER_SUM, hex(found), hex(expected));
        }
        let file_bytes = get_u64(page, AT_FILE_BYTES);
        if file_bytes != available_bytes {
            let expected = format!("{file_bytes} bytes");
            return damaged("the length of the file", AT_FILE_BYTES, format!("{available_bytes} bytes"), expected);
        }
        let checkpoint = page.get(AT_CHECKPOINT..).and_then(|rest| rest.first_chunk()).copied().unwrap_or_default();
        let header = Header {
            file_bytes,
            arch: get_u32(page, AT_ARCH),
            features: get_u32(page, AT_FEATURES),
            abi_version: get_u32(page, AT_ABI_VERSION),
            checkpoint,
            sections: sections(page)?,
        };
        header.check()?;
        // What no field names is 0: a header is written in one way.
        let written = header.encode();
        match page.iter().zip(&written).position(|(found, expected)| found != expected) {
            Some(at) => damaged("what no field of the header names", at, "something else", "0x00"),
            None => Ok(header),
        }
    }

    /// The section that holds `kind`.
    pub fn section(&self, kind: Kind) -> Option<Section> {
        self.sections.iter().copied().find(|section| section.kind == kind)
    }

    /// Sections follow each other, those that must be there are, and the last one ends the file.
    fn check(&self) -> Result<(), Fault> {
        let mut end = u64::from(HEADER_BYTES);
        for (index, section) in self.sections.iter().enumerate() {
            let what = format!("section {}", section.kind.name());
            // The next place that a section may start at.
            let start = end.checked_next_multiple_of(u64::from(ALIGN_BYTES));
            if Some(section.offset) != start {
                let expected = format!("it at byte {}", start.unwrap_or(u64::MAX));
                return damaged(&what, entry_at(index), format!("it at byte {}", section.offset), expected);
            }
            let Some(behind) = section.offset.checked_add(section.bytes).filter(|end| *end <= self.file_bytes) else {
                let expected = format!("at most {} bytes", self.file_bytes.saturating_sub(section.offset));
                return damaged(&what, entry_at(index), format!("{} bytes", section.bytes), expected);
            };
            end = behind;
        }
        if end != self.file_bytes {
            let expected = format!("{end}, where its last section ends");
            return damaged("the length of the file", AT_FILE_BYTES, self.file_bytes, expected);
        }
        match Kind::ALL.iter().find(|kind| kind.is_required() && self.section(**kind).is_none()) {
            Some(kind) => damaged("the section table", TABLE_OFFSET as usize, "no such section", kind.name()),
            None => Ok(()),
        }
    }

    /// The first page of an artifact.
    pub fn encode(&self) -> Vec<u8> {
        let mut page = vec![0; BYTES];
        put(&mut page, AT_LABEL, &LABEL);
        for (at, number) in [
            (AT_VERSION, VERSION),
            (AT_BYTE_ORDER, BYTE_ORDER),
            (AT_N_SECTIONS, self.sections.len() as u32),
            (AT_ARCH, self.arch),
            (AT_FEATURES, self.features),
            (AT_ABI_VERSION, self.abi_version),
        ] {
            put(&mut page, at, &number.to_le_bytes());
        }
        put(&mut page, AT_FILE_BYTES, &self.file_bytes.to_le_bytes());
        put(&mut page, AT_CHECKPOINT, &self.checkpoint);
        for (index, section) in self.sections.iter().enumerate() {
            let at = entry_at(index);
            put(&mut page, at.saturating_add(ENTRY_KIND), &(section.kind as u32).to_le_bytes());
            put(&mut page, at.saturating_add(ENTRY_OFFSET), &section.offset.to_le_bytes());
            put(&mut page, at.saturating_add(ENTRY_LENGTH), &section.bytes.to_le_bytes());
            put(&mut page, at.saturating_add(ENTRY_SUM), &section.sum.to_le_bytes());
        }
        let header_sum = sum(&page);
        put(&mut page, AT_HEADER_SUM, &header_sum.to_le_bytes());
        page
    }
}

/// The section table: known kinds, each once, in the order of their numbers.
fn sections(page: &[u8]) -> Result<Vec<Section>, Fault> {
    let count = get_u32(page, AT_N_SECTIONS);
    if count > MAX_SECTIONS {
        return damaged("the number of sections", AT_N_SECTIONS, count, format!("at most {MAX_SECTIONS}"));
    }
    let mut sections: Vec<Section> = Vec::new();
    for index in 0..count as usize {
        let at = entry_at(index);
        let number = get_u32(page, at.saturating_add(ENTRY_KIND));
        let Some(kind) = Kind::ALL.iter().copied().find(|kind| *kind as u32 == number) else {
            return damaged("the kind of a section", at, number, "one that this tern knows");
        };
        if sections.last().is_some_and(|before| before.kind as u32 >= number) {
            return damaged(
                "the order of sections",
                at,
                kind.name(),
                "a kind with a larger number than the one before",
            );
        }
        let number = |field: usize| get_u64(page, at.saturating_add(field));
        sections.push(Section {
            kind,
            offset: number(ENTRY_OFFSET),
            bytes: number(ENTRY_LENGTH),
            sum: number(ENTRY_SUM),
        });
    }
    Ok(sections)
}

/// A sum, as it is shown.
pub(super) fn hex(sum: u64) -> String {
    format!("{sum:016x}")
}

#[cfg(test)]
#[expect(clippy::indexing_slicing, reason = "a test may panic")]
mod tests {
    use super::*;

    fn header() -> Header {
        let section = |kind, offset, bytes| Section { kind, offset, bytes, sum: 7 };
        let sections = vec![
            section(Kind::Code, 4096, 4096),
            section(Kind::Weights, 8192, 1),
            section(Kind::WeightSums, 12288, 8),
            section(Kind::Meta, 16384, 10),
        ];
        Header { file_bytes: 16394, arch: 62, features: 3, abi_version: 1, checkpoint: [5; 32], sections }
    }

    /// The header after a change to its page, with a sum that is right again.
    fn changed(header: &Header, change: impl FnOnce(&mut Vec<u8>)) -> Result<Header, Fault> {
        let mut page = header.encode();
        change(&mut page);
        put(&mut page, AT_HEADER_SUM, &[0; 8]);
        let new = sum(&page);
        put(&mut page, AT_HEADER_SUM, &new.to_le_bytes());
        Header::decode(&page, header.file_bytes)
    }

    #[test]
    fn headers_decode_to_themselves() {
        let header = header();
        assert_eq!(Header::decode(&header.encode(), header.file_bytes), Ok(header));
    }

    #[test]
    fn every_flipped_bit_and_every_length_is_noticed() {
        let header = header();
        let page = header.encode();
        for bit in 0..page.len() * 8 {
            let mut page = page.clone();
            page[bit / 8] ^= 1 << (bit % 8);
            assert!(Header::decode(&page, header.file_bytes).is_err(), "bit {bit}");
        }
        for bytes in [0, 7, 8, 100, 4095] {
            assert!(Header::decode(&page[..bytes], bytes as u64).is_err(), "{bytes} bytes");
        }
        for available in [0, 4096, header.file_bytes - 1, header.file_bytes + 1, u64::MAX] {
            assert!(Header::decode(&page, available).is_err(), "{available} bytes");
        }
    }

    #[test]
    fn what_contradicts_itself_is_refused_even_under_a_right_sum() {
        let base = header();
        let broken = |change: &dyn Fn(&mut Header)| {
            let mut header = base.clone();
            change(&mut header);
            match Header::decode(&header.encode(), header.file_bytes) {
                Err(Fault::Damaged { what, .. }) => what,
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(broken(&|h| h.sections[0].offset = 8192), "section code");
        assert_eq!(broken(&|h| h.sections[0].offset = 0), "section code");
        assert_eq!(broken(&|h| h.sections[1].bytes = u64::MAX), "section weights");
        assert_eq!(broken(&|h| h.sections[3].bytes = 11), "section meta");
        assert_eq!(broken(&|h| h.sections[3].bytes = 9), "the length of the file");
        assert_eq!(broken(&|h| h.sections.swap(0, 1)), "the order of sections");
        assert_eq!(broken(&|h| h.sections[1].kind = Kind::Code), "the order of sections");
        assert_eq!(
            broken(&|h| {
                h.sections.pop();
                h.file_bytes = 12296;
            }),
            "the section table"
        );
        let unknown = changed(&base, |page| put(page, entry_at(0), &99_u32.to_le_bytes()));
        assert!(matches!(unknown, Err(Fault::Damaged { .. })), "{unknown:?}");
        let many = changed(&base, |page| put(page, AT_N_SECTIONS, &u32::MAX.to_le_bytes()));
        assert!(matches!(many, Err(Fault::Damaged { .. })), "{many:?}");
        for reserved in [100, entry_at(0) + ENTRY_ZERO, entry_at(4), 4095] {
            let filled = changed(&base, |page| page[reserved] = 1);
            assert!(matches!(filled, Err(Fault::Damaged { .. })), "{reserved}: {filled:?}");
        }
        let newer = changed(&base, |page| put(page, AT_VERSION, &(VERSION + 1).to_le_bytes()));
        assert_eq!(newer, Err(Fault::Version(VERSION + 1)));
    }
}
