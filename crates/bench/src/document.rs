//! Writes the figures of a complete run between two marks of `docs/performance.md`, and the plots beside it.

use std::path::Path;

use anyhow::{Context as _, Result};

use crate::figures::Section;
use crate::{markdown, svg};

const BEGIN: &str = "<!-- Figures, written by cargo xtask bench: begin -->\n";
const END: &str = "<!-- Figures, written by cargo xtask bench: end -->\n";

/// Writes the sections into the document, under `head`, and their plots into `plots/` beside it.
pub(crate) fn write(document: &Path, head: &str, sections: &[Section]) -> Result<()> {
    let directory = document.parent().context("the document is in no directory")?.join("plots");
    std::fs::create_dir_all(&directory).with_context(|| format!("cannot make {}", directory.display()))?;
    let mut text = format!("{head}\n");
    for section in sections {
        text.push('\n');
        text.push_str(&markdown::section(section, true));
        for plot in &section.plots {
            let Some(drawn) = svg::draw(section, plot) else { continue };
            let path = directory.join(format!("{}.svg", plot.file));
            std::fs::write(&path, drawn).with_context(|| format!("cannot write {}", path.display()))?;
            text.push_str(&format!("\n![{}](plots/{}.svg)\n", plot.title, plot.file));
        }
    }
    let old = std::fs::read_to_string(document).with_context(|| format!("cannot read {}", document.display()))?;
    let new = replaced(&old, &text).with_context(|| {
        format!("{} has not the two marks between which figures stand: {BEGIN}{END}", document.display())
    })?;
    std::fs::write(document, new).with_context(|| format!("cannot write {}", document.display()))
}

/// The document with `figures` between its marks; `None` if it lacks them.
fn replaced(document: &str, figures: &str) -> Option<String> {
    let (before, rest) = document.split_once(BEGIN)?;
    let (_, after) = rest.split_once(END)?;
    Some(format!("{before}{BEGIN}\n{figures}\n{END}{after}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::figures::{Plot, Table};
    use crate::units::grouped;

    #[test]
    fn only_what_stands_between_the_marks_changes() {
        let old = format!("# By hand\n{BEGIN}old\n{END}also by hand\n");
        let new = replaced(&old, "new").unwrap();
        assert_eq!(new, format!("# By hand\n{BEGIN}\nnew\n{END}also by hand\n"));
        assert_eq!(replaced(&new, "new").unwrap(), new);
        assert!(replaced("no marks", "new").is_none());
    }

    #[test]
    fn tables_and_plots_are_written_side_by_side() {
        let directory = tempfile::tempdir().unwrap();
        let document = directory.path().join("performance.md");
        std::fs::write(&document, format!("# By hand\n{BEGIN}{END}")).unwrap();
        let mut section = Section::new("rates", "Rates", "About.");
        let mut table = Table::new("1 partner", ["relay", "product"]);
        table.add("rate", "accepted/s", vec![vec![4.0], vec![2.0]], grouped);
        section.tables.push(table);
        section.plots.push(Plot { file: "rates", title: "A plot", rows: &["rate"] });
        section.plots.push(Plot { file: "none", title: "Of nothing", rows: &["unknown"] });
        write(&document, "Head.", &[section]).unwrap();
        let text = std::fs::read_to_string(&document).unwrap();
        assert!(text.contains("Head.") && text.contains("2 (0.50×)") && text.contains("![A plot](plots/rates.svg)"));
        assert!(!text.contains("Of nothing"));
        let plots: Vec<_> = directory.path().join("plots").read_dir().unwrap().collect();
        assert_eq!(plots.len(), 1);
    }

    #[test]
    fn this_repository_has_a_place_for_its_figures() {
        let document = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/performance.md");
        assert!(replaced(&std::fs::read_to_string(document).unwrap(), "new").is_some());
    }
}
