//! The element type of cached keys and values.
//!
//! In: nothing. Out: [`KvType`], which sessions, the reference interpreter and the compiler's kernels share, with its
//! name, its size and its number in the ABI.

use crate::generated::abi;

/// Element type of the cached keys and values.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum KvType {
    /// Exact.
    F32,
    /// Half the memory and half the reading; rounds keys and values to 11 bits.
    F16,
}

impl KvType {
    /// Both.
    pub const ALL: [Self; 2] = [KvType::F32, KvType::F16];

    /// The name on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            KvType::F32 => "f32",
            KvType::F16 => "f16",
        }
    }

    /// The type called `name`.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kv| kv.name() == name)
    }

    /// Bytes of an element.
    pub const fn bytes(self) -> u32 {
        match self {
            KvType::F32 => 4,
            KvType::F16 => 2,
        }
    }

    /// The ABI's number.
    pub const fn code(self) -> u32 {
        match self {
            KvType::F32 => abi::KV_F32,
            KvType::F16 => abi::KV_F16,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lead_back() {
        for kv in KvType::ALL {
            assert_eq!(KvType::from_name(kv.name()), Some(kv));
        }
        assert_eq!(KvType::from_name("F16"), None);
        assert_ne!(KvType::F32.code(), KvType::F16.code());
    }
}
