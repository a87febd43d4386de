//! Bar charts as SVG: the median of each figure as a bar, the spread of its rounds as a thin line over it.
//!
//! Text and lines take the colour that fits the reader's light or dark setting; there is no background.

use std::fmt::Write as _;

use crate::figures::{Plot, Row, Section};
use crate::units::median;

const WIDTH: f64 = 760.0;
const LABELS: f64 = 250.0;
const VALUES: f64 = 130.0;
const BAR: f64 = 18.0;
const GAP: f64 = 14.0;
const TOP: f64 = 64.0;
const COLOURS: [&str; 5] = ["#8c96a3", "#2f81f7", "#d97706", "#2da44e", "#a475f9"];
const STYLE: &str = "text{font:13px system-ui,sans-serif;fill:#1f2328}.title{font-size:15px;font-weight:600}\
    .line{stroke:#1f2328;stroke-width:1.5}@media(prefers-color-scheme:dark){text{fill:#e6edf3}.line{stroke:#e6edf3}}";

/// Draws a plot of the section; `None` when no row of it was measured.
pub(crate) fn draw(section: &Section, plot: &Plot) -> Option<String> {
    let groups = groups(section, plot);
    let columns: &[String] =
        section.tables.iter().max_by_key(|table| table.columns.len()).map(|table| &table.columns[..])?;
    let most = groups.iter().flat_map(|(_, row)| row.values.iter().flatten()).copied().fold(0.0, f64::max);
    if most <= 0.0 {
        return None;
    }
    let mut body = String::new();
    let mut y = TOP;
    for (label, row) in &groups {
        let bars = row.values.iter().filter(|rounds| !rounds.is_empty()).count() as f64;
        text(&mut body, LABELS - 10.0, y + bars * BAR / 2.0 + 4.0, "end", label);
        for (column, rounds) in row.values.iter().enumerate().filter(|(_, rounds)| !rounds.is_empty()) {
            bar(&mut body, y, COLOURS[column % COLOURS.len()], rounds, most, row.text);
            y += BAR;
        }
        y += GAP;
    }
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{y}\" viewBox=\"0 0 {WIDTH} {y}\" role=\"img\">\n\
         <title>{title}</title>\n<style>{STYLE}</style>\n<text class=\"title\" x=\"10\" y=\"22\">{title}</text>\n",
        title = escaped(plot.title)
    );
    let mut x = 10.0;
    for (column, name) in columns.iter().enumerate() {
        rectangle(&mut out, x, 36.0, 12.0, 12.0, COLOURS[column % COLOURS.len()]);
        text(&mut out, x + 18.0, 47.0, "start", name);
        x += 40.0 + 7.5 * name.chars().count() as f64;
    }
    out.push_str(&body);
    out.push_str("</svg>\n");
    Some(out)
}

/// The rows of a plot, each with a label that tells it from the others.
fn groups<'a>(section: &'a Section, plot: &Plot) -> Vec<(String, &'a Row)> {
    let mut groups = Vec::new();
    for table in &section.tables {
        for row in table.rows.iter().filter(|row| plot.rows.contains(&row.key.as_str())) {
            let label = match (section.tables.len(), plot.rows.len()) {
                (1, _) => row.label.clone(),
                (_, 1) => table.title.clone(),
                _ => format!("{}, {}", table.title, row.label),
            };
            groups.push((label, row));
        }
    }
    groups
}

fn bar(out: &mut String, y: f64, colour: &str, rounds: &[f64], most: f64, shown: fn(f64) -> String) {
    let scale = (WIDTH - LABELS - VALUES) / most;
    let middle = median(rounds.to_vec());
    let (low, high) = rounds.iter().fold((f64::MAX, 0.0_f64), |(low, high), value| (low.min(*value), high.max(*value)));
    rectangle(out, LABELS, y + 1.0, (middle * scale).max(0.5), BAR - 2.0, colour);
    let (from, to, centre) = (LABELS + low * scale, LABELS + high * scale, y + BAR / 2.0);
    // Writing to a `String` cannot fail.
    let _ =
        writeln!(out, "<line class=\"line\" x1=\"{from:.1}\" y1=\"{centre:.1}\" x2=\"{to:.1}\" y2=\"{centre:.1}\"/>");
    text(out, LABELS + high.max(middle) * scale + 8.0, centre + 4.0, "start", &shown(middle));
}

fn rectangle(out: &mut String, x: f64, y: f64, width: f64, height: f64, colour: &str) {
    let _ = writeln!(
        out,
        "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{height:.1}\" rx=\"2\" fill=\"{colour}\"/>"
    );
}

fn text(out: &mut String, x: f64, y: f64, anchor: &str, text: &str) {
    let _ = writeln!(out, "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{}</text>", escaped(text));
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::figures::Table;
    use crate::units::grouped;

    #[test]
    fn bars_are_medians_to_one_scale() {
        let mut section = Section::new("s", "S", "");
        let mut table = Table::new("1 < 2", ["relay", "product"]);
        table.add("rate", "a & b", vec![vec![50.0, 100.0, 75.0], vec![25.0]], grouped);
        table.add("other", "not drawn", vec![vec![900.0], vec![]], grouped);
        section.tables.push(table);
        let plot = Plot { file: "rates", title: "Rates", rows: &["rate"] };
        let svg = draw(&section, &plot).unwrap();
        assert!(svg.contains("a &amp; b") && !svg.contains("not drawn"));
        // The widest round, 100, takes the whole 380; the medians are 75 and 25.
        for width in ["width=\"285.0\"", "width=\"95.0\""] {
            assert!(svg.contains(width), "{width} in {svg}");
        }
        assert!(svg.contains("x1=\"440.0\"") && svg.contains("x2=\"630.0\""), "the spread, 50 to 100: {svg}");
    }

    #[test]
    fn nothing_measured_is_nothing_drawn() {
        let plot = Plot { file: "rates", title: "Rates", rows: &["rate"] };
        assert!(draw(&Section::new("s", "S", ""), &plot).is_none());
    }
}
