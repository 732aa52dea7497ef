//! The ways in which the encodings put several trits into a byte.
//!
//! In: bytes. Out: codes (trit + 1), and the other way round. Codes of two bits may come out as 3, which is no trit: whoever
//! calls decides what that means. Lanes that are not filled stay as they are.
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

/// Powers of three, the first trit of a byte being the most significant of five.
const POWERS: [u8; 5] = [1, 3, 9, 27, 81];

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
        *code = digit(byte, *power);
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
    fn any_byte_gives_trits() {
        for byte in 0..=255 {
            let mut codes = [7; 5];
            from_base3(&[byte], 5, &mut codes);
            assert!(codes.iter().all(|code| *code < 3), "{byte}");
        }
    }
}
