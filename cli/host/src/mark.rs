//! The mark in the program that executables are made of: which models it can carry.
//!
//! In: the bytes of a file. Out: whether it is a host program that reads what this tern writes. A host carries the mark among
//! its constants; `tern build` looks for it before it appends a model. It upholds that a program which is no host, or one of
//! another source, is refused when it is built with and not when it is run.

use tern_runtime::generated::abi::ABI_VERSION;
use tern_runtime::generated::artifact::VERSION;

/// What a mark begins with.
const LABEL: [u8; 16] = *b"tern-host mark\xf1\n";
/// What it ends with: the label alone may stand in other programs.
const END: [u8; 4] = *b"\n\xf1.\n";
/// Its length, and what it is aligned to, in memory and so in the file.
const MARK_BYTES: usize = 64;

/// The mark of a host for an architecture: label, three numbers, end; 0 behind it.
#[repr(C, align(64))]
struct Mark([u8; MARK_BYTES]);

/// The mark of this program.
static MARK: Mark = Mark::new(Numbers::OWN);

/// What must be equal in a host and in whoever appends a model to it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Numbers {
    /// Layout of artifacts.
    layout: u32,
    /// How compiled code is called.
    abi: u32,
    /// The architecture, as ELF numbers it.
    machine: u32,
}

impl Numbers {
    const OWN: Self = Self { layout: VERSION, abi: ABI_VERSION, machine: machine() };
}

/// The architecture of this program, as ELF numbers it; 0 where tern has no code for it.
const fn machine() -> u32 {
    if cfg!(target_arch = "x86_64") {
        62
    } else if cfg!(target_arch = "aarch64") {
        183
    } else if cfg!(target_arch = "riscv64") {
        243
    } else {
        0
    }
}

impl Mark {
    const fn new(numbers: Numbers) -> Self {
        let mut bytes = [0; MARK_BYTES];
        let (start, rest) = bytes.split_at_mut(LABEL.len());
        start.copy_from_slice(&LABEL);
        let fields = [numbers.layout.to_le_bytes(), numbers.abi.to_le_bytes(), numbers.machine.to_le_bytes(), END];
        let (fields_at, _) = rest.split_at_mut(16);
        fields_at.copy_from_slice(fields.as_flattened());
        Self(bytes)
    }
}

/// Keeps the mark in the program that calls it.
pub fn keep() {
    std::hint::black_box(&MARK.0);
}

/// Refuses a file that is no host program for the models of this tern.
///
/// # Errors
/// What is found in the file, and what was expected.
pub fn check(program: &[u8]) -> Result<(), String> {
    let own = Numbers::OWN;
    let found: Vec<_> = program.chunks_exact(MARK_BYTES).filter_map(read).collect();
    if found.contains(&own) {
        return Ok(());
    }
    let told =
        |n: &Numbers| format!("artifacts of layout {}, code of ABI {}, ELF machine {}", n.layout, n.abi, n.machine);
    let expected = told(&own);
    Err(match found.first() {
        Some(other) => format!("it is a host for {}; expected one for {expected}", told(other)),
        None => format!("it has no mark of a host; expected one for {expected}"),
    })
}

/// The numbers of a mark, if the bytes are one.
fn read(bytes: &[u8]) -> Option<Numbers> {
    let rest = bytes.strip_prefix(&LABEL)?;
    let (fields, rest) = rest.as_chunks::<4>();
    let [layout, abi, machine, end, zeros @ ..] = fields else { return None };
    let whole = *end == END && rest.is_empty() && zeros.as_flattened().iter().all(|byte| *byte == 0);
    let [layout, abi, machine] = [layout, abi, machine].map(|field| u32::from_le_bytes(*field));
    whole.then_some(Numbers { layout, abi, machine })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A made-up program with some pages, and perhaps a mark among them.
    fn program(mark: Option<Numbers>) -> Vec<u8> {
        let mut bytes = b"\x7fELF".to_vec();
        bytes.resize(4096, 0x5a);
        bytes.extend(mark.map(|numbers| Mark::new(numbers).0).unwrap_or([0; MARK_BYTES]));
        bytes.resize(9000, 0x5a);
        bytes
    }

    #[test]
    fn hosts_are_known_by_their_numbers() {
        let own = Numbers::OWN;
        check(&program(Some(own))).expect("a host");
        assert_eq!(MARK.0.as_ptr().align_offset(MARK_BYTES), 0);
        for other in [
            Numbers { layout: own.layout + 1, ..own },
            Numbers { abi: own.abi + 1, ..own },
            Numbers { machine: 40, ..own },
        ] {
            let e = check(&program(Some(other))).expect_err("another host");
            for numbers in [other, own] {
                let told =
                    format!("layout {}, code of ABI {}, ELF machine {}", numbers.layout, numbers.abi, numbers.machine);
                assert!(e.contains(&told), "{e}");
            }
        }
    }

    #[test]
    fn other_programs_are_no_hosts() {
        let mut label_only = program(None);
        label_only[4096..][..LABEL.len()].copy_from_slice(&LABEL);
        let mut off_its_place = program(None);
        off_its_place[4097..][..MARK_BYTES].copy_from_slice(&MARK.0);
        for bytes in [program(None), label_only, off_its_place, Vec::new(), LABEL.to_vec()] {
            let e = check(&bytes).expect_err("no host");
            assert!(e.contains("no mark"), "{e}");
        }
    }
}
