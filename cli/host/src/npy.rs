//! NumPy's `.npy` files of f32 matrices.
//!
//! In: the shape of a matrix. Out: the bytes that stand in front of its elements, which follow in rows, little endian.
//!
//! Source: NumPy, `numpy/lib/format.py` (version 1.0).

/// What stands before the length of the header: the mark and the version.
const MAGIC: &[u8; 8] = b"\x93NUMPY\x01\x00";
/// Elements start at a multiple of so many bytes.
const ALIGN_BYTES: usize = 64;

/// The header of a matrix of f32, `rows` x `cols`.
pub fn header(rows: usize, cols: usize) -> Vec<u8> {
    let mut text = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({rows}, {cols}), }}");
    // Spaces up to a line break, which ends it.
    let len_bytes = MAGIC.len() + 2;
    let end = (len_bytes + text.len() + 1).next_multiple_of(ALIGN_BYTES);
    while len_bytes + text.len() + 1 < end {
        text.push(' ');
    }
    text.push('\n');
    // Two numbers take less than a hundred bytes.
    let len = text.len() as u16;
    [MAGIC, &len.to_le_bytes()[..], text.as_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_aligned_and_say_how_long_they_are() {
        for (rows, cols) in [(0, 1), (3, 1024), (usize::MAX, usize::MAX)] {
            let header = header(rows, cols);
            assert_eq!(header.len() % ALIGN_BYTES, 0);
            assert_eq!(usize::from(u16::from_le_bytes([header[8], header[9]])) + 10, header.len());
            let text = std::str::from_utf8(&header[10..]).expect("text");
            assert!(text.contains(&format!("({rows}, {cols})")) && text.ends_with('\n'), "{text}");
        }
    }
}
