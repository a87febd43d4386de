//! Measuring a round again when the machine's host was not calm.

use anyhow::Result;

use crate::units::percent_text;

/// How often a round is measured again at most.
const REPEATS: u32 = 2;

/// What decides whether a round is to be measured again.
pub(super) struct Judged {
    /// The share of the processors that the host took.
    pub(super) taken: f64,
    /// Whether events were lost or repeated. Such a round is never thrown away.
    pub(super) faulty: bool,
}

/// Measures, and again while the host takes more than `most` of the processors; gives the calmest round.
pub(super) async fn calmest<E, T>(
    env: &mut E,
    most: f64,
    judge: impl Fn(&T) -> Judged,
    mut measure: impl AsyncFnMut(&mut E) -> Result<T>,
) -> Result<T> {
    let mut calmest = measure(env).await?;
    let mut last = judge(&calmest);
    for _ in 0..REPEATS {
        if last.taken <= most || judge(&calmest).faulty {
            break;
        }
        eprintln!("the host took {} of the processors: this round again", percent_text(last.taken));
        let again = measure(env).await?;
        last = judge(&again);
        if last.faulty || last.taken < judge(&calmest).taken {
            calmest = again;
        }
    }
    Ok(calmest)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Measures rounds of these shares and faults one after the other; gives which one counts, and how many were measured.
    async fn counts(rounds: &[(f64, bool)]) -> (usize, usize) {
        let judge = |round: &usize| Judged { taken: rounds[*round].0, faulty: rounds[*round].1 };
        let mut measured = 0;
        let measure = async |measured: &mut usize| {
            *measured += 1;
            Ok(*measured - 1)
        };
        let counts = calmest(&mut measured, 0.05, judge, measure).await.unwrap();
        (counts, measured)
    }

    #[tokio::test]
    async fn a_noisy_round_is_measured_again_at_most_twice_and_the_calmest_counts() {
        assert_eq!(counts(&[(0.05, false), (0.0, false)]).await, (0, 1));
        assert_eq!(counts(&[(0.3, false), (0.01, false), (0.0, false)]).await, (1, 2));
        assert_eq!(counts(&[(0.3, false), (0.1, false), (0.2, false), (0.0, false)]).await, (1, 3));
        assert_eq!(counts(&[(0.1, false), (0.3, false), (0.2, false), (0.0, false)]).await, (0, 3));
    }

    #[tokio::test]
    async fn a_faulty_round_is_never_thrown_away() {
        assert_eq!(counts(&[(0.3, true), (0.0, false)]).await, (0, 1));
        assert_eq!(counts(&[(0.1, false), (0.3, true), (0.0, false)]).await, (1, 2));
        assert_eq!(counts(&[(0.3, false), (0.01, true), (0.0, false)]).await, (1, 2));
    }
}
