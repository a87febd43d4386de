//! Lower-case hex, the form of `capa-signature` and of the webhook secret.

const DIGITS: &[u8; 16] = b"0123456789abcdef";

/// `bytes` as lower-case hex digits. The buffer never grows on the way, so that a secret leaves no copy behind.
pub(crate) fn encode(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        text.push(char::from(DIGITS[usize::from(byte >> 4)]));
        text.push(char::from(DIGITS[usize::from(byte & 0x0f)]));
    }
    text
}

/// The bytes behind exactly 64 lower-case hex digits.
pub(crate) fn decode_32(text: &str) -> Option<[u8; 32]> {
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    if pairs.len() != 32 || !rest.is_empty() {
        return None;
    }
    let mut bytes = [0; 32];
    for (byte, [high, low]) in bytes.iter_mut().zip(pairs) {
        *byte = nibble(*high)? << 4 | nibble(*low)?;
    }
    Some(bytes)
}

/// Whether `byte` is one of `0` to `9` and `a` to `f`.
pub(crate) fn is_digit(byte: u8) -> bool {
    nibble(byte).is_some()
}

fn nibble(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::{decode_32, encode};

    #[test]
    fn there_and_back() {
        let bytes: [u8; 32] = std::array::from_fn(|i| u8::try_from(i * 8 + i % 8).unwrap());
        let text = encode(&bytes);
        assert!(text.starts_with("0009121b242d363f4049"), "{text}");
        assert_eq!(decode_32(&text), Some(bytes));
    }

    #[test]
    fn refuses_every_other_form() {
        let good = "0123456789abcdef".repeat(4);
        assert!(decode_32(&good).is_some());
        for bad in ["", &good[1..], &good[2..], &format!("{good}0"), &format!("{good}00"), &good.to_uppercase()] {
            assert_eq!(decode_32(bad), None, "{bad}");
        }
        for neighbour in ['/', ':', '`', 'g', 'A', ' '] {
            assert_eq!(decode_32(&format!("{neighbour}{}", &good[1..])), None, "{neighbour}");
        }
    }
}
