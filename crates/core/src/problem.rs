//! What is wrong with an input, and how to mend it.

/// One thing that is wrong with an input: where, and what to do about it.
///
/// Problems reach the caller as the `details` of a 400, so they never quote a value: it could be a secret or a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Path of the offending value, such as `url` or `lines[2].amount`; empty for the whole body.
    pub field: String,
    /// What is wrong and how to mend it, as one sentence in plain words.
    pub problem: String,
}

impl Problem {
    /// A problem of the value at `field`.
    pub fn new(field: impl Into<String>, problem: impl Into<String>) -> Self {
        Self { field: field.into(), problem: problem.into() }
    }
}

/// The candidate that is closest to `word`, where one is close enough to be what was meant.
pub fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let lower = word.to_lowercase();
    candidates
        .into_iter()
        .map(|candidate| (strsim::jaro_winkler(&lower, &candidate.to_lowercase()), candidate))
        .filter(|(likeness, _)| *likeness >= 0.7)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::nearest;

    #[test]
    fn finds_what_was_meant() {
        let words = ["VERIFIED_USER", "REJECTED_KYC", "CREATED_KYC"];
        assert_eq!(nearest("verified_user", words), Some("VERIFIED_USER"));
        assert_eq!(nearest("REJECTED_KY", words), Some("REJECTED_KYC"));
        assert_eq!(nearest("zzz", words), None);
    }
}
