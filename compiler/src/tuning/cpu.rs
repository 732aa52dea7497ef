//! Which CPU this is: figures are its own.
//!
//! In: what the CPU says of itself (`cpuid`), elsewhere than on x86 what Linux says in `/proc/cpuinfo`. Out: [`Cpu`], and a
//! name for its file. Numbers of cores and speeds do not tell CPUs apart, only kinds do: figures say how many threads they
//! were measured with.

use std::fmt;

use crate::codegen::Isa;
use tern_runtime::cores::physical_cores;

/// The most characters of a text that a CPU says of itself.
pub const MAX_TEXT: usize = 100;

/// A kind of CPU.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Cpu {
    /// Who made it: `GenuineIntel`, `AuthenticAMD`; of aarch64 the implementer's number.
    pub vendor: String,
    /// Family, model and stepping; of aarch64 part, variant and revision.
    pub model: String,
    /// What it calls itself, or nothing.
    pub brand: String,
    /// The best level that it runs.
    pub level: String,
    /// Physical cores for this process. For people: it does not tell CPUs apart.
    pub cores: u32,
}

impl Cpu {
    /// This machine's.
    pub fn here() -> Self {
        let (vendor, model, brand) = identity();
        Self {
            vendor: clean(&vendor),
            model: clean(&model),
            brand: clean(&brand),
            level: Isa::native().map_or("none", Isa::name).to_owned(),
            cores: physical_cores() as u32,
        }
    }

    /// Whether figures of one are figures of the other.
    pub fn is_same(&self, other: &Cpu) -> bool {
        let all = |cpu: &Cpu| [cpu.vendor.clone(), cpu.model.clone(), cpu.brand.clone(), cpu.level.clone()];
        all(self) == all(other)
    }

    /// A name for a file: lower-case letters, digits, dashes.
    pub fn file_name(&self) -> String {
        let text = format!("{} {} {} {}", self.vendor, self.model, self.brand, self.level).to_ascii_lowercase();
        let words = text.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
        words.collect::<Vec<_>>().join("-")
    }
}

impl fmt::Display for Cpu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Cpu { vendor, model, brand, level, .. } = self;
        let brand = if brand.is_empty() { String::new() } else { format!(" ({brand})") };
        write!(f, "{vendor} {model}{brand}, level {level}")
    }
}

/// One line of plain characters.
fn clean(text: &str) -> String {
    let plain: String = text.chars().map(|c| if c.is_ascii_graphic() { c } else { ' ' }).collect();
    plain.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(MAX_TEXT).collect()
}

/// Vendor, model, brand.
#[cfg(target_arch = "x86_64")]
fn identity() -> (String, String, String) {
    use std::arch::x86_64::__cpuid;
    let text = |registers: &[u32]| -> String {
        let bytes = registers.iter().flat_map(|register| register.to_le_bytes());
        bytes.take_while(|byte| *byte != 0).map(char::from).collect()
    };
    let first = __cpuid(0);
    let vendor = text(&[first.ebx, first.edx, first.ecx]);
    let model = model_of(__cpuid(1).eax);
    let brand = if __cpuid(0x8000_0000).eax >= 0x8000_0004 {
        let leaves = [0x8000_0002, 0x8000_0003, 0x8000_0004].map(__cpuid);
        text(&leaves.map(|leaf| [leaf.eax, leaf.ebx, leaf.ecx, leaf.edx]).concat())
    } else {
        String::new()
    };
    (vendor, model, brand)
}

/// Vendor, model, brand.
#[cfg(not(target_arch = "x86_64"))]
fn identity() -> (String, String, String) {
    listed(&std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default())
}

/// Family, model and stepping from what leaf 1 has in `eax`: extended numbers count where the short ones are full.
#[cfg(any(target_arch = "x86_64", test))]
fn model_of(signature: u32) -> String {
    let bits = |from: u32, n: u32| (signature >> from) & ((1 << n) - 1);
    let (stepping, model, family) = (bits(0, 4), bits(4, 4), bits(8, 4));
    let wide = family == 6 || family == 15;
    let model = if wide { model | (bits(16, 4) << 4) } else { model };
    let family = if family == 15 { family + bits(20, 8) } else { family };
    format!("{family}-{model}-{stepping}")
}

/// The same from the text that Linux has: of the first CPU in it.
#[cfg(any(not(target_arch = "x86_64"), test))]
fn listed(cpuinfo: &str) -> (String, String, String) {
    let field = |name: &str| {
        let mut fields = cpuinfo.lines().filter_map(|line| line.split_once(':'));
        fields.find(|(key, _)| key.trim() == name).map(|(_, value)| value.trim().to_owned())
    };
    let first = |names: &[&str]| names.iter().find_map(|name| field(name));
    let vendor = first(&["CPU implementer", "mvendorid"]).unwrap_or_else(|| "unknown".to_owned());
    let numbers = ["CPU part", "CPU variant", "CPU revision", "marchid", "mimpid"];
    let model = numbers.iter().filter_map(|name| field(name)).collect::<Vec<_>>().join("-");
    (vendor, model, first(&["model name", "uarch", "Model"]).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_cpu_is_itself() {
        let cpu = Cpu::here();
        assert!(cpu.is_same(&Cpu { cores: cpu.cores + 1, ..cpu.clone() }));
        assert!(!cpu.is_same(&Cpu { model: "0-0-0".to_owned(), ..cpu.clone() }));
        let name = cpu.file_name();
        assert!(!name.is_empty() && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-'));
    }

    #[test]
    fn models_are_numbered_as_vendors_do() {
        // Family 6, model 0x8f, stepping 8; family 15 + 10, model 0x11, stepping 1; family 5, model 4.
        assert_eq!(model_of(0x0008_06f8), "6-143-8");
        assert_eq!(model_of(0x00a1_0f11), "25-17-1");
        assert_eq!(model_of(0x0000_0543), "5-4-3");
    }

    #[test]
    fn other_cpus_are_read_from_text() {
        let arm = "processor\t: 0\nCPU implementer\t: 0x41\nCPU variant\t: 0x1\nCPU part\t: 0xd40\nCPU revision\t: 1\n";
        assert_eq!(listed(arm), ("0x41".to_owned(), "0xd40-0x1-1".to_owned(), String::new()));
        assert_eq!(listed("").0, "unknown");
        assert_eq!(clean(" a\u{7}b\n  ç "), "a b");
        assert_eq!(clean(&"x".repeat(1000)).len(), MAX_TEXT);
    }
}
