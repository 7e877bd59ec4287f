//! Formats the figures as a table and compares them with the targets.

use super::measure::Cost;
use crate::generate::Kind;

/// Row name of pktvisord with one worker.
pub(super) const OURS: &str = "pktvisord --workers 1";
/// Row name of pktvisord with two workers.
pub(super) const OURS_TWICE: &str = "pktvisord --workers 2";
/// Row name of the program that processor times are compared with.
pub(super) const REFERENCE: &str = "capinfos";

/// A row of the table.
pub(super) struct Row {
    /// Name of the program.
    pub name: &'static str,
    /// Median cost.
    pub cost: Cost,
}

/// Formats a Markdown table whose columns are also aligned as plain text.
pub(super) fn render(rows: &[Row]) -> String {
    let ratio = |row: &Row, to: &str| match find(rows, to) {
        Some(other) => format!("{:.2}", row.cost.cpu / other.cpu),
        None => "–".to_owned(),
    };
    let header = ["", "CPU s", "wall s", "peak MiB", "CPU / capinfos", "CPU / pktvisord"];
    let mut lines = vec![header.map(str::to_owned)];
    lines.extend(rows.iter().map(|row| {
        [
            row.name.to_owned(),
            format!("{:.2}", row.cost.cpu),
            format!("{:.2}", row.cost.wall),
            format!("{:.1}", row.cost.peak),
            ratio(row, REFERENCE),
            ratio(row, OURS),
        ]
    }));
    let widths: [usize; 6] = std::array::from_fn(|column| {
        lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0)
    });
    let [name_width, figure_widths @ ..] = widths;
    let mut lines: Vec<_> = lines
        .iter()
        .map(|[name, figures @ ..]| {
            let figures = figures.iter().zip(figure_widths);
            let figures = figures.map(|(figure, width)| format!(" {figure:>width$} |"));
            format!("| {name:<name_width$} |{}\n", figures.collect::<String>())
        })
        .collect();
    let rule = figure_widths.map(|width| format!("{}:|", "-".repeat(width + 1)));
    lines.insert(1, format!("|{}|{}\n", "-".repeat(name_width + 2), rule.concat()));
    lines.concat()
}

/// Returns one line for each target whose figures are among the rows.
pub(super) fn targets(kind: Kind, rows: &[Row]) -> Vec<String> {
    let (ours, twice, reference) =
        (find(rows, OURS), find(rows, OURS_TWICE), find(rows, REFERENCE));
    let cpu_target = match kind {
        Kind::Mixed => Some(0.28),
        Kind::Dns => Some(0.6),
        Kind::Flood => None,
    };
    let peak_target = match kind {
        Kind::Mixed => Some(64.0),
        Kind::Dns => None,
        Kind::Flood => Some(128.0),
    };
    let mut lines = Vec::new();
    if let (Some(target), Some(ours), Some(reference)) = (cpu_target, ours, reference) {
        let ratio = ours.cpu / reference.cpu;
        lines.push(line(
            "CPU time as a ratio of capinfos'",
            ratio,
            "at most",
            target,
            ratio <= target,
        ));
    }
    if let (Some(ours), Some(twice)) = (ours, twice) {
        let speed = ours.wall / twice.wall;
        lines.push(line("speed of two workers to one", speed, "at least", 1.6, speed >= 1.6));
    }
    if let (Some(target), Some(ours)) = (peak_target, ours) {
        let peak = twice.map_or(ours.peak, |twice| ours.peak.max(twice.peak));
        lines.push(line("peak memory in MiB", peak, "at most", target, peak <= target));
    }
    lines
}

/// Formats a list item that compares a figure with its target.
fn line(what: &str, figure: f64, bound: &str, target: f64, met: bool) -> String {
    let verdict = if met { "met" } else { "missed" };
    format!("* {what}: {figure:.2}, to be {bound} {target}: **{verdict}**\n")
}

/// Returns the cost in the row `name`.
fn find(rows: &[Row], name: &str) -> Option<Cost> {
    rows.iter().find(|row| row.name == name).map(|row| row.cost)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(name: &'static str, cpu: f64, wall: f64, peak: f64) -> Row {
        Row { name, cost: Cost { cpu, wall, peak } }
    }

    #[test]
    fn aligns_columns_and_compares_cpu_times() {
        let rows = [row(OURS, 0.5, 0.6, 30.0), row(REFERENCE, 2.0, 2.1, 100.25)];
        let expected = "\
|                       | CPU s | wall s | peak MiB | CPU / capinfos | CPU / pktvisord |
|-----------------------|------:|-------:|---------:|---------------:|----------------:|
| pktvisord --workers 1 |  0.50 |   0.60 |     30.0 |           0.25 |            1.00 |
| capinfos              |  2.00 |   2.10 |    100.2 |           1.00 |            4.00 |
";
        assert_eq!(render(&rows), expected);
    }

    #[test]
    fn leaves_out_ratio_to_unmeasured_program() {
        let table = render(&[row("dnstop", 1.0, 1.0, 1.0)]);
        assert!(table.ends_with("|              – |               – |\n"), "{table}");
        assert!(targets(Kind::Mixed, &[row("dnstop", 1.0, 1.0, 1.0)]).is_empty());
    }

    #[test]
    fn compares_figures_with_targets() {
        let rows = [
            row(OURS, 0.5, 1.0, 30.0),
            row(OURS_TWICE, 0.6, 0.65, 70.0),
            row(REFERENCE, 2.0, 2.0, 20.0),
        ];
        assert_eq!(
            targets(Kind::Mixed, &rows).concat(),
            "* CPU time as a ratio of capinfos': 0.25, to be at most 0.28: **met**\n\
             * speed of two workers to one: 1.54, to be at least 1.6: **missed**\n\
             * peak memory in MiB: 70.00, to be at most 64: **missed**\n"
        );
    }
}
