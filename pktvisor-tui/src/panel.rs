//! What a screen is made of: panels of facts, tables, charts and text.

use crate::theme::Tone;

/// A part of a screen.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Panel {
    pub(crate) title: String,
    /// What is said beside the title.
    pub(crate) note: String,
    /// Whether it is as wide as the screen.
    pub(crate) wide: bool,
    pub(crate) content: Content,
}

/// What a panel holds.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Content {
    Facts(Vec<Fact>),
    Table(Table),
    Chart(Chart),
}

/// A value with its name.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Fact {
    pub(crate) name: String,
    pub(crate) value: String,
    /// The part of a whole that it is, and the whole.
    pub(crate) share: Option<(u64, u64)>,
    pub(crate) tone: Tone,
    /// Where it stands in the JSON of a view, if older daemons do not tell it.
    pub(crate) field: Option<&'static str>,
}

/// Names with counts.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Table {
    pub(crate) rows: Vec<Row>,
    /// What all rows are a part of; 0 where that is not known.
    pub(crate) whole: u64,
    /// How many rows it has in all, with those that do not match what is searched for.
    pub(crate) all: usize,
}

/// A row of a table.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Row {
    pub(crate) name: String,
    pub(crate) count: u64,
    /// The count, written out.
    pub(crate) text: String,
    /// By how much it can be too high.
    pub(crate) error: u64,
}

/// Series over the last minutes.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Chart {
    pub(crate) series: Vec<Series>,
    /// How a value is written.
    pub(crate) unit: &'static str,
}

/// A line of a chart.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Series {
    pub(crate) name: String,
    /// Seconds before now, as a negative number, and the value then.
    pub(crate) points: Vec<(f64, f64)>,
}

/// Rows of a table where there is room for all panels.
pub(crate) const TOP: usize = 10;
/// Lines of a chart.
pub(crate) const CHART: usize = 9;

impl Panel {
    pub(crate) fn facts(title: &str, facts: Vec<Fact>) -> Self {
        let content = Content::Facts(facts);
        Self { title: title.to_owned(), note: String::new(), wide: false, content }
    }

    pub(crate) fn table(title: &str, table: Table) -> Self {
        let content = Content::Table(table);
        Self { title: title.to_owned(), note: String::new(), wide: false, content }
    }

    pub(crate) fn chart(title: &str, chart: Chart) -> Self {
        let content = Content::Chart(chart);
        Self { title: title.to_owned(), note: String::new(), wide: false, content }
    }

    /// With something said beside the title.
    pub(crate) fn note(mut self, note: impl Into<String>) -> Self {
        self.note = note.into();
        self
    }

    /// As wide as the screen.
    pub(crate) fn wide(mut self) -> Self {
        self.wide = true;
        self
    }

    /// Its facts, where it holds any.
    pub(crate) fn facts_mut(&mut self) -> &mut [Fact] {
        match &mut self.content {
            Content::Facts(facts) => facts,
            _ => &mut [],
        }
    }

    /// Lines that it takes, with its title.
    pub(crate) fn height(&self) -> usize {
        1 + match &self.content {
            Content::Facts(facts) => facts.len(),
            Content::Table(table) => table.rows.len().clamp(1, TOP),
            Content::Chart(_) => CHART,
        }
    }
}

impl Fact {
    pub(crate) fn new(name: impl Into<String>, value: impl Into<String>) -> Self {
        Self { name: name.into(), value: value.into(), share: None, tone: Tone::Plain, field: None }
    }

    /// As a part of a whole.
    pub(crate) fn of(mut self, part: u64, whole: u64) -> Self {
        self.share = (whole > 0).then_some((part, whole));
        self
    }

    /// What only daemons tell that have this field.
    pub(crate) fn field(mut self, field: &'static str) -> Self {
        self.field = Some(field);
        self
    }

    /// As what the daemon does not tell.
    pub(crate) fn absent(&mut self) {
        "—".clone_into(&mut self.value);
        (self.share, self.tone) = (None, Tone::Dim);
    }

    /// In another tone.
    pub(crate) fn tone(mut self, tone: Tone) -> Self {
        self.tone = tone;
        self
    }
}
