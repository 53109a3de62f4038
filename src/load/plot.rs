//! Line and bar charts as inline SVG: axes, ticks, a legend. What is drawn, and the page round it, are `report`'s.

use std::fmt::Write;

/// The drawing area, in the units of the picture.
const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 250.0;
const LEFT: f64 = 78.0;
const RIGHT: f64 = 34.0;
const TOP: f64 = 26.0;
const BOTTOM: f64 = 40.0;
/// Points of one line that are marked, so that a short run shows where it was measured.
const MOST_MARKS: usize = 40;

/// One axis: where a value lies on it, from 0 to 1, and what is written along it.
#[derive(Debug, Clone, PartialEq)]
pub struct Axis {
    scale: Scale,
    ticks: Vec<(f64, String)>,
    pub label: &'static str,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Scale {
    Linear { most: f64 },
    Logarithmic { least: f64, most: f64 },
}

impl Axis {
    /// From 0 to a round number not below `most`.
    pub fn linear(most: f64, label: &'static str, show: impl Fn(f64) -> String) -> Self {
        let step = round_step(most.max(1e-9) / 4.0);
        let steps = (most / step).ceil().max(1.0);
        let ticks = (0..=steps as usize).map(|n| n as f64 * step).map(|value| (value, show(value))).collect();
        Self { scale: Scale::Linear { most: steps * step }, ticks, label }
    }

    /// From 0 to exactly `most`.
    pub fn time(most: f64, label: &'static str) -> Self {
        let step = round_step(most.max(1e-9) / 8.0);
        let ticks = (0..).map(|n| f64::from(n) * step).take_while(|value| *value <= most);
        Self {
            scale: Scale::Linear { most: most.max(1e-9) },
            ticks: ticks.map(|value| (value, short(value))).collect(),
            label,
        }
    }

    /// From a round number not above `least` to one not below `most`, both above 0.
    pub fn logarithmic(least: f64, most: f64, label: &'static str, show: impl Fn(f64) -> String) -> Self {
        let round = |value: &f64| *value > least * 0.199 && *value < most * 5.01;
        let decades = (least.log10().floor() as i32 - 1)..=(most.log10().ceil() as i32 + 1);
        let all = decades.flat_map(|power| [1.0, 2.0, 5.0].map(|factor| factor * 10_f64.powi(power)));
        let all: Vec<f64> = all.filter(round).collect();
        let low = all.iter().copied().filter(|value| *value <= least * 1.000_001).fold(f64::MIN_POSITIVE, f64::max);
        let high =
            all.iter().copied().filter(|value| *value >= most * 0.999_999 && *value > low).fold(f64::MAX, f64::min);
        let within = all.into_iter().filter(|value| (low..=high).contains(value));
        // Over many decades the numbers between would touch each other.
        let many = (high / low).log10() > 2.5;
        let is_decade = |value: f64| (value.log10() - value.log10().round()).abs() < 1e-6;
        let ticks = within.filter(|value| !many || is_decade(*value)).map(|value| (value, show(value))).collect();
        Self { scale: Scale::Logarithmic { least: low, most: high }, ticks, label }
    }

    /// Shares of all, from none to `most` (below 1), each further nine as wide as the one before.
    pub fn percentiles(most: f64, label: &'static str) -> Self {
        let marks = [0.0, 0.5, 0.9, 0.99, 0.999, 0.9999, 0.99999, 0.999_999];
        let names = ["0 %", "50 %", "90 %", "99 %", "99.9 %", "99.99 %", "99.999 %", "99.9999 %"];
        let ticks = marks.iter().zip(names).filter(|(mark, _)| **mark <= most);
        let ticks = ticks.map(|(mark, name)| (1.0 / (1.0 - mark), name.to_owned())).collect();
        Self { scale: Scale::Logarithmic { least: 1.0, most: 1.0 / (1.0 - most) }, ticks, label }
    }

    fn place(&self, value: f64) -> f64 {
        let place = match self.scale {
            Scale::Linear { most } => value / most,
            Scale::Logarithmic { least, most } => (value.max(least) / least).ln() / (most / least).ln(),
        };
        place.clamp(0.0, 1.0)
    }
}

/// 1, 2 or 5 times a power of ten, not below `least`.
fn round_step(least: f64) -> f64 {
    let power = 10_f64.powf(least.log10().floor());
    let factor = [1.0, 2.0, 5.0, 10.0].into_iter().find(|factor| factor * power >= least * 0.999_999);
    factor.unwrap_or(10.0) * power
}

fn short(value: f64) -> String {
    let text = format!("{value:.3}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// How one set of values is drawn. The name of its colour is a class of the page.
pub struct Series {
    pub name: &'static str,
    pub class: &'static str,
    pub shape: Shape,
    pub points: Vec<(f64, f64)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    Line,
    Bars,
}

/// The chart, as an element of a page. Every text in it is this program's own.
pub fn chart(title: &str, x: &Axis, y: &Axis, series: &[Series]) -> String {
    let mut svg = format!(
        "<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{title}\" xmlns=\"http://www.w3.org/2000/svg\">\n"
    );
    grid(&mut svg, x, y);
    for one in series {
        match one.shape {
            Shape::Line => line(&mut svg, x, y, one),
            Shape::Bars => bars(&mut svg, x, y, one),
        }
    }
    legend(&mut svg, series);
    svg += "</svg>\n";
    svg
}

fn across(x: &Axis, value: f64) -> f64 {
    LEFT + x.place(value) * (WIDTH - LEFT - RIGHT)
}

fn down(y: &Axis, value: f64) -> f64 {
    HEIGHT - BOTTOM - y.place(value) * (HEIGHT - TOP - BOTTOM)
}

fn grid(svg: &mut String, x: &Axis, y: &Axis) {
    let (right, bottom) = (WIDTH - RIGHT, HEIGHT - BOTTOM);
    for (value, name) in &y.ticks {
        let at = down(y, *value);
        let _ = writeln!(
            svg,
            "<line class=\"grid\" x1=\"{LEFT}\" y1=\"{at:.1}\" x2=\"{right}\" y2=\"{at:.1}\"/>\
             <text class=\"tick\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{name}</text>",
            LEFT - 8.0,
            at + 4.0
        );
    }
    for (value, name) in &x.ticks {
        let at = across(x, *value);
        let _ = writeln!(
            svg,
            "<line class=\"grid\" x1=\"{at:.1}\" y1=\"{TOP}\" x2=\"{at:.1}\" y2=\"{bottom}\"/>\
             <text class=\"tick\" x=\"{at:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{name}</text>",
            bottom + 16.0
        );
    }
    let _ = write!(
        svg,
        "<line class=\"axis\" x1=\"{LEFT}\" y1=\"{bottom}\" x2=\"{right}\" y2=\"{bottom}\"/>\n\
         <text class=\"label\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>\n\
         <text class=\"label\" x=\"4\" y=\"14\">{}</text>\n",
        (LEFT + right) / 2.0,
        HEIGHT - 6.0,
        x.label,
        y.label
    );
}

fn line(svg: &mut String, x: &Axis, y: &Axis, series: &Series) {
    let places: Vec<_> = series.points.iter().map(|(at, value)| (across(x, *at), down(y, *value))).collect();
    let path: Vec<String> = places.iter().map(|(at, value)| format!("{at:.1},{value:.1}")).collect();
    let _ = writeln!(svg, "<polyline class=\"{}\" points=\"{}\"/>", series.class, path.join(" "));
    if places.len() <= MOST_MARKS {
        for (at, value) in places {
            let _ = writeln!(svg, "<circle class=\"{}\" cx=\"{at:.1}\" cy=\"{value:.1}\" r=\"2.5\"/>", series.class);
        }
    }
}

fn bars(svg: &mut String, x: &Axis, y: &Axis, series: &Series) {
    let bottom = HEIGHT - BOTTOM;
    let width = ((WIDTH - LEFT - RIGHT) / series.points.len().max(1) as f64 * 0.7).min(40.0);
    for (at, value) in series.points.iter().filter(|(_, value)| *value > 0.0) {
        let (left, top) = (across(x, *at) - width / 2.0, down(y, *value));
        // One failure among thousands must still be seen.
        let top = top.min(bottom - 2.0);
        let _ = writeln!(
            svg,
            "<rect class=\"{}\" x=\"{left:.1}\" y=\"{top:.1}\" width=\"{width:.1}\" height=\"{:.1}\"/>",
            series.class,
            bottom - top
        );
    }
}

fn legend(svg: &mut String, series: &[Series]) {
    let mut right = WIDTH - RIGHT;
    for one in series.iter().rev().filter(|one| !one.name.is_empty()) {
        let _ = write!(svg, "<text class=\"legend\" x=\"{right:.1}\" y=\"14\" text-anchor=\"end\">{}</text>", one.name);
        right -= one.name.chars().count() as f64 * 7.5 + 12.0;
        let _ = writeln!(svg, "<circle class=\"{}\" cx=\"{right:.1}\" cy=\"10\" r=\"4\"/>", one.class);
        right -= 18.0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_round_and_reach_the_top() {
        for (most, ticks) in [(7.0, vec!["0", "2", "4", "6", "8"]), (1000.0, vec!["0", "500", "1000"])] {
            let axis = Axis::linear(most, "", short);
            let names: Vec<_> = axis.ticks.iter().map(|(_, name)| name.as_str()).collect();
            assert_eq!(names, ticks, "{most}");
            assert!((axis.place(axis.ticks.last().expect("a tick").0) - 1.0).abs() < 1e-9);
        }
    }

    #[test]
    fn each_nine_is_as_wide_as_the_one_before() {
        let axis = Axis::percentiles(0.9999, "");
        let at = |share: f64| axis.place(1.0 / (1.0 - share));
        for (share, place) in [(0.0, 0.0), (0.9, 0.25), (0.99, 0.5), (0.999, 0.75), (0.9999, 1.0)] {
            assert!((at(share) - place).abs() < 1e-6, "{share}: {}", at(share));
        }
    }

    #[test]
    fn values_outside_stay_on_the_chart() {
        let ticks = |least, most| {
            let axis = Axis::logarithmic(least, most, "", short);
            assert_eq!((axis.place(0.0), axis.place(1e9)), (0.0, 1.0));
            axis.ticks.into_iter().map(|(_, name)| name).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(ticks(30.0, 300.0), "20 50 100 200 500");
        assert_eq!(ticks(30.0, 30.0), "20 50");
        assert_eq!(ticks(100.0, 100.0), "100 200");
        assert_eq!(ticks(12.0, 90_000.0), "10 100 1000 10000 100000");
    }
}
