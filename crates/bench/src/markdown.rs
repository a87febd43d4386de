//! Sections as Markdown: what a run prints, and what stands in `docs/performance.md`.

use std::fmt::Write as _;

use crate::figures::{Row, Section, Table};
use crate::units::median;

/// A section under a heading of the third level. `judged` says whether verdicts are shown.
pub(crate) fn section(section: &Section, judged: bool) -> String {
    let mut out = format!("### {}\n\n{}\n", section.title, section.about);
    for table in &section.tables {
        out.push('\n');
        out.push_str(&self::table(table));
    }
    if judged && !section.verdicts.is_empty() {
        out.push('\n');
        for verdict in &section.verdicts {
            // Writing to a `String` cannot fail.
            let _ = writeln!(out, "* {}", verdict.line());
        }
    }
    for fault in &section.faults {
        let _ = writeln!(out, "\n**{fault}**");
    }
    out
}

/// A table with aligned columns. Behind every figure but the first of a row stands its multiple of the first.
fn table(table: &Table) -> String {
    let mut lines = vec![std::iter::once(table.title.clone()).chain(table.columns.iter().cloned()).collect()];
    lines.extend(table.rows.iter().map(cells));
    let columns = table.columns.len() + 1;
    let length = |text: &String| text.chars().count();
    let widths: Vec<usize> = (0..columns)
        .map(|column| lines.iter().map(|line: &Vec<String>| length(&line[column])).max().unwrap_or(0))
        .collect();
    let rule = widths.iter().map(|width| format!("{}:", "-".repeat(width.saturating_sub(1).max(2))));
    let rule: Vec<String> =
        rule.enumerate().map(|(at, rule)| if at == 0 { rule.replace(':', "-") } else { rule }).collect();
    lines.insert(1, rule);
    let mut out = String::new();
    for line in lines {
        for (at, (cell, width)) in line.iter().zip(&widths).enumerate() {
            let _ = if at == 0 { write!(out, "| {cell:<width$} ") } else { write!(out, "| {cell:>width$} ") };
        }
        out.push_str("|\n");
    }
    out
}

fn cells(row: &Row) -> Vec<String> {
    let medians: Vec<Option<f64>> =
        row.values.iter().map(|rounds| (!rounds.is_empty()).then(|| median(rounds.clone()))).collect();
    let first = medians.first().copied().flatten().unwrap_or(0.0);
    let cell = |(at, value): (usize, &Option<f64>)| match value {
        None => "–".to_owned(),
        Some(value) if at > 0 && first > 0.0 => format!("{} ({:.2}×)", (row.text)(*value), value / first),
        Some(value) => (row.text)(*value),
    };
    std::iter::once(row.label.clone()).chain(medians.iter().enumerate().map(cell)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::figures::Asked;
    use crate::units::{grouped, times_text};

    fn sample() -> Section {
        let mut section = Section::new("rates", "Rates", "About.");
        let mut table = Table::new("1 partner", ["relay", "product"]);
        table.add("rate", "accepted/s", vec![vec![40_000.0, 41_000.0], vec![20_250.0]], grouped);
        table.add("start", "start", vec![vec![], vec![7.0]], grouped);
        section.tables.push(table);
        section.ask("rate", 0.5, Asked::AtLeast(0.6), times_text);
        section
    }

    #[test]
    fn a_section_reads_as_a_table_with_verdicts() {
        let expected = "\
### Rates

About.

| 1 partner  |  relay |        product |
| ---------- | -----: | -------------: |
| accepted/s | 40,500 | 20,250 (0.50×) |
| start      |      – |              7 |

* rate: 0.50×, asked at least 0.60×: does not hold
";
        assert_eq!(section(&sample(), true), expected);
    }

    #[test]
    fn without_judgement_there_are_no_verdicts() {
        assert!(!section(&sample(), false).contains("asked"));
    }
}
