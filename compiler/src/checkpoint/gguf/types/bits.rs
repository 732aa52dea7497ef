//! The ways in which the encodings put several trits into a byte.
//!
//! In: bytes. Out: codes (trit + 1), and the other way round. Codes of two bits may come out as 3, which is no trit: whoever
//! calls decides what that means; so do bytes to the base three that no five trits give. Lanes that are not filled stay as they are.
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

/// Powers of three, the first trit of a byte being the most significant of five.
const POWERS: [u8; 5] = [1, 3, 9, 27, 81];

/// What stands where there is no trit.
const NO_TRIT: u8 = 3;

/// Whether a byte is ceil(256 q / 243) of some number q of five trits: 13 of all bytes are not.
#[expect(clippy::indexing_slicing, reason = "constants, no input")]
const IS_PACKED: [bool; 256] = {
    let (mut is_packed, mut q) = ([false; 256], 0);
    while q < 243 {
        is_packed[(q * 256usize).div_ceil(243)] = true;
        q += 1;
    }
    is_packed
};

fn is_packed(byte: u8) -> bool {
    IS_PACKED.get(usize::from(byte)).copied().unwrap_or(false)
}

/// Shifts of two bits, the first lanes lowest.
pub(super) const RISING: [u32; 4] = [0, 2, 4, 6];
/// Shifts of two bits, the first lanes highest.
pub(super) const FALLING: [u32; 4] = [6, 4, 2, 0];

/// The trit of `byte` = ceil(256 q / 243), q a number of five trits to the base three, whose digit is `power` / 81 from the
/// top: c = floor(3 (byte * power mod 256) / 256).
fn digit(byte: u8, power: u8) -> u8 {
    (u16::from(byte.wrapping_mul(power)).wrapping_mul(3) >> 8) as u8
}

/// Five (or, with fewer lanes, less) trits to a byte: lane n of byte m is `out[n * bytes.len() + m]`, lane 0 the most
/// significant.
pub(super) fn from_base3(bytes: &[u8], lanes: usize, out: &mut [u8]) {
    for (lane, power) in out.chunks_mut(bytes.len().max(1)).take(lanes).zip(POWERS) {
        lane.iter_mut().zip(bytes).for_each(|(code, byte)| *code = digit(*byte, power));
    }
    for at in bytes.iter().enumerate().filter(|(_, byte)| !is_packed(**byte)).map(|(at, _)| at) {
        out.iter_mut().skip(at).step_by(bytes.len().max(1)).take(lanes).for_each(|code| *code = NO_TRIT);
    }
}

/// The inverse of [`from_base3`], for codes that are trits.
pub(super) fn to_base3(codes: &[u8], lanes: usize, bytes: &mut [u8]) {
    let width = bytes.len().max(1);
    for (at, byte) in bytes.iter_mut().enumerate() {
        let digits = codes.iter().skip(at).step_by(width).take(lanes);
        let number = digits
            .zip(POWERS.iter().rev())
            .fold(0u32, |n, (code, power)| n.saturating_add(u32::from(*code).saturating_mul(u32::from(*power))));
        // ceil(256 q / 243); q is at most 242.
        *byte = number.saturating_mul(256).saturating_add(242).checked_div(243).unwrap_or(0) as u8;
    }
}

/// The digit of `power` = 3^(4 - j) of a byte whose trit j counts 3^j: the least significant first.
pub(super) fn from_base3_rising(byte: u8, out: &mut [u8]) {
    for (code, power) in out.iter_mut().zip(POWERS.iter().rev()) {
        *code = if is_packed(byte) { digit(byte, *power) } else { NO_TRIT };
    }
}

/// Four codes to a byte: lane n of byte m is `out[n * bytes.len() + m]`, `shifts[n]` bits up.
pub(super) fn from_planes(bytes: &[u8], shifts: [u32; 4], out: &mut [u8]) {
    for (lane, shift) in out.chunks_mut(bytes.len().max(1)).zip(shifts) {
        lane.iter_mut().zip(bytes).for_each(|(code, byte)| *code = byte.unbounded_shr(shift) & 3);
    }
}

/// The inverse of [`from_planes`].
pub(super) fn to_planes(codes: &[u8], shifts: [u32; 4], bytes: &mut [u8]) {
    bytes.fill(0);
    let width = bytes.len().max(1);
    for (lane, shift) in codes.chunks(width).zip(shifts) {
        bytes.iter_mut().zip(lane).for_each(|(byte, code)| *byte |= code.unbounded_shl(shift));
    }
}

/// Four neighbouring codes to a byte, the first lowest.
pub(super) fn from_neighbours(bytes: &[u8], out: &mut [u8]) {
    for (codes, byte) in out.chunks_mut(4).zip(bytes) {
        codes.iter_mut().zip(RISING).for_each(|(code, shift)| *code = byte.unbounded_shr(shift) & 3);
    }
}

/// The inverse of [`from_neighbours`].
pub(super) fn to_neighbours(codes: &[u8], bytes: &mut [u8]) {
    for (byte, codes) in bytes.iter_mut().zip(codes.chunks(4)) {
        *byte = codes.iter().zip(RISING).fold(0, |byte, (code, shift)| byte | code.unbounded_shl(shift));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_five_trits_come_back() {
        for number in 0..243u32 {
            let codes: Vec<u8> = [81, 27, 9, 3, 1].map(|power| (number / power % 3) as u8).into();
            let mut byte = [0];
            to_base3(&codes, 5, &mut byte);
            let mut back = [7; 5];
            from_base3(&byte, 5, &mut back);
            assert_eq!(back, *codes, "{number}");
            let mut rising = [7; 5];
            from_base3_rising(byte[0], &mut rising);
            rising.reverse();
            assert_eq!(rising, *codes, "{number}");
        }
    }

    #[test]
    fn a_byte_gives_trits_or_none() {
        let packed: Vec<u8> = (0..243u32).map(|q| (q * 256).div_ceil(243) as u8).collect();
        for byte in 0..=255 {
            let (mut codes, mut rising) = ([7; 5], [7; 5]);
            from_base3(&[byte], 5, &mut codes);
            from_base3_rising(byte, &mut rising);
            for codes in [codes, rising] {
                let is_packed = packed.contains(&byte);
                assert!(codes.iter().all(|code| (*code < 3) == is_packed), "{byte}: {codes:?}");
            }
        }
        let mut codes = [7; 8];
        let second = packed.get(1).copied().expect("243 bytes");
        from_base3(&[0, 128, 255, second], 2, &mut codes);
        assert!(packed.contains(&128), "half of all numbers");
        assert_eq!(codes.map(|code| code < 3), [true, true, packed.contains(&255), true].repeat(2)[..]);
    }
}
