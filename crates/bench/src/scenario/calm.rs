//! Measuring a round again when the machine's host was not calm.
//!
//! Only what the host says that it took of the processors (steal) is known here, not whether the disk was slow.

use anyhow::Result;

use crate::units::percent_text;

/// When a round counts as calm, and how often one that is not is measured again at most.
#[derive(Debug, Clone, Copy)]
pub(super) struct Calm {
    /// The share of the processors that the host may take.
    pub(super) taken: f64,
    pub(super) repeats: u32,
}

impl Calm {
    /// For rates, with so much as was asked for.
    pub(super) const fn for_rates(taken: f64) -> Self {
        Self { taken, repeats: 2 }
    }

    /// For short rounds whose p99 counts: a fifth of that, because a hundredth of the time can make all of a p99.
    pub(super) fn for_latencies(taken: f64) -> Self {
        Self { taken: taken / 5.0, repeats: 5 }
    }
}

/// What decides whether a round is to be measured again.
pub(super) struct Judged {
    /// The share of the processors that the host took.
    pub(super) taken: f64,
    /// Whether events were lost or repeated. Such a round is never thrown away.
    pub(super) faulty: bool,
}

/// Measures, and again while the host is not calm; gives the calmest round.
pub(super) async fn calmest<E, T>(
    env: &mut E,
    calm: Calm,
    judge: impl Fn(&T) -> Judged,
    mut measure: impl AsyncFnMut(&mut E) -> Result<T>,
) -> Result<T> {
    let mut calmest = measure(env).await?;
    let mut last = judge(&calmest);
    for _ in 0..calm.repeats {
        if last.taken <= calm.taken || judge(&calmest).faulty {
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
        let counts = calmest(&mut measured, Calm::for_rates(0.05), judge, measure).await.unwrap();
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
    async fn a_round_for_a_p99_must_be_calmer_and_is_measured_more_often() {
        let judge = |taken: &f64| Judged { taken: *taken, faulty: false };
        let mut shares = vec![0.0, 0.009, 0.011, 0.02, 0.03, 0.04, 0.05].into_iter();
        let measure = async |shares: &mut std::vec::IntoIter<f64>| Ok(shares.next_back().unwrap());
        assert_eq!(calmest(&mut shares, Calm::for_latencies(0.05), judge, measure).await.unwrap(), 0.009);
        assert_eq!(shares.len(), 1);
    }

    #[tokio::test]
    async fn a_faulty_round_is_never_thrown_away() {
        assert_eq!(counts(&[(0.3, true), (0.0, false)]).await, (0, 1));
        assert_eq!(counts(&[(0.1, false), (0.3, true), (0.0, false)]).await, (1, 2));
        assert_eq!(counts(&[(0.3, false), (0.01, true), (0.0, false)]).await, (1, 2));
    }
}
