//! The tracker's names for vulnerabilities without a number: `TEMP-0841856-B18BAF`, of the first bug and the first six
//! hexadecimal digits of the description's MD5 (RFC 1321; a name here, no protection).

/// Of the number of its first bug (0: none) and its description.
pub(super) fn name(bug: u32, description: &str) -> String {
    let digest = md5(description.as_bytes());
    format!("TEMP-{bug:07}-{:02X}{:02X}{:02X}", digest[0], digest[1], digest[2])
}

/// RFC 1321, section 3.
fn md5(message: &[u8]) -> [u8; 16] {
    const SHIFTS: [[u32; 4]; 4] =
        [[7, 12, 17, 22], [5, 9, 14, 20], [4, 11, 16, 23], [6, 10, 15, 21]];
    let mut padded = message.to_vec();
    padded.push(0x80);
    while padded.len() % 64 != 56 {
        padded.push(0);
    }
    padded.extend((message.len() as u64).wrapping_mul(8).to_le_bytes());
    let mut state: [u32; 4] = [0x6745_2301, 0xefcd_ab89, 0x98ba_dcfe, 0x1032_5476];
    for block in padded.chunks_exact(64) {
        let mut words = [0u32; 16];
        for (word, bytes) in words.iter_mut().zip(block.chunks_exact(4)) {
            *word = bytes.iter().rev().fold(0, |all, &b| (all << 8) | u32::from(b));
        }
        let [mut a, mut b, mut c, mut d] = state;
        for step in 0..64 {
            let (mixed, word) = match step / 16 {
                0 => ((b & c) | (!b & d), step),
                1 => ((d & b) | (!d & c), (5 * step + 1) % 16),
                2 => (b ^ c ^ d, (3 * step + 5) % 16),
                _ => (c ^ (b | !d), (7 * step) % 16),
            };
            // Table T: the integer part of 2³² times |sin(step + 1)|.
            let sine = (((step + 1) as f64).sin().abs() * 4_294_967_296.0) as u32;
            let sum = a.wrapping_add(mixed).wrapping_add(sine).wrapping_add(words[word]);
            let turned = sum.rotate_left(SHIFTS[step / 16][step % 4]);
            (a, d, c, b) = (d, c, b, b.wrapping_add(turned));
        }
        for (whole, part) in state.iter_mut().zip([a, b, c, d]) {
            *whole = whole.wrapping_add(part);
        }
    }
    let mut digest = [0; 16];
    for (bytes, word) in digest.chunks_exact_mut(4).zip(state) {
        bytes.copy_from_slice(&word.to_le_bytes());
    }
    digest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_are_those_of_rfc_1321_and_names_those_of_the_tracker() {
        let hex = |text: &str| md5(text.as_bytes()).map(|b| format!("{b:02x}")).concat();
        assert_eq!(hex(""), "d41d8cd98f00b204e9800998ecf8427e");
        assert_eq!(hex("abc"), "900150983cd24fb0d6963f7d28e17f72");
        let digits = "1234567890".repeat(8);
        assert_eq!(hex(&digits), "57edf4a22be3c955ac49da2e2107b67a");
        for (bug, what, expected) in [
            (628_843, "more related to CVE-2005-4890", "TEMP-0628843-DBAD28"),
            (
                841_856,
                "Privilege escalation possible to other user than root",
                "TEMP-0841856-B18BAF",
            ),
            (0, "XSS in press-this of wordpress", "TEMP-0000000-0CA7E3"),
        ] {
            assert_eq!(name(bug, what), expected);
        }
    }
}
