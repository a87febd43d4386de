//! The webhook secret, which partner and server share.
//!
//! It is 64 lower-case hex digits, and the digits themselves are the key of every signature: the 64 ASCII bytes, *not*
//! the 32 bytes that they could be decoded to. The same key has a second spelling for Standard Webhooks libraries:
//! `whsec_` followed by the base64 of those 64 bytes. [`Secret`] reads and writes both.
//!
//! A `Secret` wipes its memory when it is dropped, compares in constant time, and shows itself only through
//! [`Secret::expose`] and [`Secret::to_whsec`]: there is no `Display`, and `Debug` prints `Secret(***)`.

use std::{fmt, str::FromStr};

use base64::prelude::{BASE64_STANDARD, Engine as _};
use thiserror::Error;
use zeroize::{Zeroize as _, ZeroizeOnDrop, Zeroizing};

use crate::{hex, sign::Signer};

/// How many hex digits, and so how many bytes of key, a secret has.
const DIGITS: usize = 64;

const WHSEC_PREFIX: &str = "whsec_";

/// A webhook secret.
///
/// ```
/// use capa_webhooks_receiver::Secret;
///
/// # fn main() -> Result<(), capa_webhooks_receiver::SecretError> {
/// let digits = "5b1c9f0a7d3e4826b0c5d9e1f2a34567890abcdef1234567890fedcba9876543";
/// let secret: Secret = digits.parse()?;
/// assert_eq!(secret, secret.to_whsec().parse()?);
/// assert_eq!(format!("{secret:?}"), "Secret(***)");
/// # Ok(())
/// # }
/// ```
// On the heap, because moving the value must not leave copies of the digits on the stack.
#[derive(Clone, ZeroizeOnDrop)]
pub struct Secret(String);

impl Secret {
    /// The secret in the form that Capa hands out: exactly 64 lower-case hex digits.
    ///
    /// # Errors
    /// Any other text is refused, one with upper-case digits or a trailing newline too.
    pub fn from_hex_digits(digits: &str) -> Result<Self, SecretError> {
        check_digits(digits.as_bytes())?;
        Ok(Self(digits.to_owned()))
    }

    /// The secret in the form of Standard Webhooks: `whsec_` and the base64, padding included, of the 64 digits.
    ///
    /// # Errors
    /// Refused when the prefix is missing, when the rest is not base64, or when it decodes to anything but 64 lower-case
    /// hex digits: a secret of another product is not one of ours.
    pub fn from_whsec(whsec: &str) -> Result<Self, SecretError> {
        let Some(encoded) = whsec.strip_prefix(WHSEC_PREFIX) else {
            return Err(SecretError::NoWhsecPrefix);
        };
        refuse_space(encoded)?;
        let decoded = Zeroizing::new(BASE64_STANDARD.decode(encoded).map_err(|_| SecretError::NotBase64)?);
        check_digits(&decoded).map_err(|_| SecretError::ForeignWhsec)?;
        let digits = std::str::from_utf8(&decoded).map_err(|_| SecretError::ForeignWhsec)?;
        Ok(Self(digits.to_owned()))
    }

    /// A new secret out of 32 bytes from a cryptographic random source: their hex digits.
    pub fn generate_from(mut random: [u8; 32]) -> Self {
        let secret = Self(hex::encode(&random));
        random.zeroize();
        secret
    }

    /// The 64 hex digits. For showing the secret once or for sealing it, never for a log.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// The secret in the form of Standard Webhooks, as revealing as [`expose`](Self::expose).
    pub fn to_whsec(&self) -> String {
        let mut whsec = String::with_capacity(WHSEC_PREFIX.len() + DIGITS.div_ceil(3) * 4);
        whsec.push_str(WHSEC_PREFIX);
        BASE64_STANDARD.encode_string(&self.0, &mut whsec);
        whsec
    }
}

impl FromStr for Secret {
    type Err = SecretError;

    /// Reads either form; the prefix decides which.
    fn from_str(text: &str) -> Result<Self, SecretError> {
        if text.starts_with(WHSEC_PREFIX) { Self::from_whsec(text) } else { Self::from_hex_digits(text) }
    }
}

impl PartialEq for Secret {
    /// Takes the same time wherever the two differ.
    fn eq(&self, other: &Self) -> bool {
        Signer::new(self).same_key(&Signer::new(other))
    }
}

impl Eq for Secret {}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(***)")
    }
}

/// Why a text is not a webhook secret, and how to mend it. Never repeats any of the text.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum SecretError {
    /// There is white space before or after the secret.
    #[error(
        "the webhook secret begins or ends with white space; trim it, often it is the newline at the end of a file"
    )]
    SurroundingSpace,
    /// The number of characters is wrong.
    #[error(
        "a webhook secret has 64 lower-case hex digits, but this text has {found} bytes; copy the secret again as a whole"
    )]
    WrongLength {
        /// How many bytes the text has.
        found: usize,
    },
    /// A character is not a lower-case hex digit.
    #[error(
        "character {position} of the webhook secret is not one of 0-9 and a-f; copy the secret again, and keep its letters lower case"
    )]
    NotLowerHex {
        /// Which character it is, counted from 1.
        position: usize,
    },
    /// The `whsec_` in front is missing.
    #[error(
        "a webhook secret in Standard Webhooks form begins with `whsec_`; 64 hex digits by themselves are the plain form"
    )]
    NoWhsecPrefix,
    /// What follows `whsec_` is not base64.
    #[error("what follows `whsec_` is not standard base64 with its `=` padding; copy the secret again as a whole")]
    NotBase64,
    /// What follows `whsec_` is base64, but not of 64 lower-case hex digits.
    #[error(
        "this `whsec_` secret does not hold 64 lower-case hex digits; take the one from the webhook settings, \
         and encode the digits as text, not the 32 bytes behind them"
    )]
    ForeignWhsec,
}

fn check_digits(text: &[u8]) -> Result<(), SecretError> {
    if text.trim_ascii().len() != text.len() {
        return Err(SecretError::SurroundingSpace);
    }
    if text.len() != DIGITS {
        return Err(SecretError::WrongLength { found: text.len() });
    }
    match text.iter().position(|byte| !hex::is_digit(*byte)) {
        Some(index) => Err(SecretError::NotLowerHex { position: index + 1 }),
        None => Ok(()),
    }
}

fn refuse_space(text: &str) -> Result<(), SecretError> {
    if text.trim_ascii().len() == text.len() { Ok(()) } else { Err(SecretError::SurroundingSpace) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEX: &str = "5b1c9f0a7d3e4826b0c5d9e1f2a34567890abcdef1234567890fedcba9876543";

    fn whsec_of(key: &[u8]) -> String {
        format!("whsec_{}", BASE64_STANDARD.encode(key))
    }

    #[test]
    fn reads_both_forms() {
        let secret = Secret::from_hex_digits(HEX).unwrap();
        assert_eq!(secret.expose(), HEX);
        assert_eq!(Secret::from_whsec(&whsec_of(HEX.as_bytes())).unwrap().expose(), HEX);
        for text in [HEX.to_owned(), secret.to_whsec()] {
            assert_eq!(text.parse::<Secret>().unwrap().expose(), HEX);
        }
    }

    #[test]
    fn refuses_everything_else_and_says_why() {
        use SecretError::*;
        let table = [
            (String::new(), WrongLength { found: 0 }),
            (HEX[1..].to_owned(), WrongLength { found: 63 }),
            (format!("{HEX}0"), WrongLength { found: 65 }),
            (format!("{HEX}\n"), SurroundingSpace),
            (format!(" {}", &HEX[1..]), SurroundingSpace),
            (HEX.to_uppercase(), NotLowerHex { position: 2 }),
            (format!("{}g", &HEX[1..]), NotLowerHex { position: 64 }),
            (format!("{}é", &HEX[2..]), NotLowerHex { position: 63 }),
            ("whsec_".to_owned(), ForeignWhsec),
            (format!("{}\n", whsec_of(HEX.as_bytes())), SurroundingSpace),
            (whsec_of(HEX.as_bytes()).replace('=', ""), NotBase64),
            ("whsec_*".to_owned(), NotBase64),
            (whsec_of(&[7; 24]), ForeignWhsec),
            (whsec_of(&hex::decode_32(HEX).unwrap()), ForeignWhsec),
            (whsec_of(HEX.to_uppercase().as_bytes()), ForeignWhsec),
            (whsec_of(&[0xff; 64]), ForeignWhsec),
        ];
        for (text, expected) in table {
            assert_eq!(text.parse::<Secret>().unwrap_err(), expected, "{text:?}");
        }
        assert_eq!(Secret::from_whsec(HEX).unwrap_err(), NoWhsecPrefix);
    }

    #[test]
    fn generates_the_hex_of_the_given_bytes() {
        let secret = Secret::generate_from([0xa7; 32]);
        assert_eq!(secret.expose(), "a7".repeat(32));
        assert_eq!(Secret::from_hex_digits(secret.expose()), Ok(secret));
    }

    #[test]
    fn differs_in_any_single_digit() {
        let secret = Secret::from_hex_digits(HEX).unwrap();
        for index in 0..DIGITS {
            let mut digits = HEX.to_owned();
            let other = if &digits[index..=index] == "0" { "1" } else { "0" };
            digits.replace_range(index..=index, other);
            assert_ne!(Secret::from_hex_digits(&digits).unwrap(), secret, "digit {index}");
        }
        assert_eq!(secret.clone(), secret);
    }

    #[test]
    fn debug_hides_the_digits() {
        assert_eq!(format!("{:?}", Secret::from_hex_digits(HEX)), "Ok(Secret(***))");
    }

    #[test]
    fn errors_do_not_repeat_the_text() {
        let error = HEX.replace('9', "X").parse::<Secret>().unwrap_err();
        for shown in [format!("{error}"), format!("{error:?}")] {
            assert!(!shown.contains("5b1c") && !shown.contains('X'), "{shown}");
        }
    }
}
