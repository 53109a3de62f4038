//! Only faults belong here: every scene of `faults`, one after the other, each with proxies of its own.

use std::any::Any;
use std::time::Duration;

use super::super::faults::{SCENES, Scene, Survived};

/// Within this time good requests have to pass again.
pub const RECOVERY: Duration = Duration::from_secs(5);

pub struct Row {
    pub what: String,
    pub how: How,
}

pub enum How {
    Survived(Survived),
    /// It cannot be brought about on this machine.
    NotRun(&'static str),
    Failed(String),
}

impl Row {
    /// As it is promised.
    pub fn held(&self) -> bool {
        match &self.how {
            How::Survived(fault) => fault.recovery <= RECOVERY && fault.unrecorded == 0,
            How::NotRun(_) => true,
            How::Failed(_) => false,
        }
    }
}

pub async fn run(rounds: usize) -> Vec<Row> {
    let mut rows = Vec::new();
    for scene in SCENES {
        super::say(&format!("{} ({})", scene.name, scene.rows));
        rows.extend(one(scene, rounds).await);
    }
    rows
}

async fn one(scene: &'static Scene, rounds: usize) -> Vec<Row> {
    let row = |fault: &str, how| Row { what: format!("{}{fault} ({})", scene.name, scene.rows), how };
    // On a runtime of its own, as a test has it: a scene that fails takes nothing with it.
    let played = tokio::task::spawn_blocking(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on((scene.run)(rounds))
    });
    match played.await {
        Ok(Ok(faults)) => {
            faults.into_iter().map(|fault| row(&format!(": {}", fault.fault), How::Survived(fault))).collect()
        }
        Ok(Err(why)) => vec![row("", How::NotRun(why))],
        Err(error) => vec![row("", How::Failed(error.try_into_panic().map_or_else(|error| error.to_string(), said)))],
    }
}

#[expect(clippy::needless_pass_by_value, reason = "what a panic left")]
fn said(panic: Box<dyn Any + Send>) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
    text.unwrap_or("it panicked").lines().next().unwrap_or_default().to_owned()
}
