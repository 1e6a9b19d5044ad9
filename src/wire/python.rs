//! A Python interpreter for tests that ask the other side.

use std::{
    env,
    io::Write,
    process::{Command, Stdio},
};

/// An interpreter that was found.
pub(crate) struct Python {
    program: String,
}

impl Python {
    /// The interpreter that `MAGEFLOW_PYTHON` names, or else `python3`. `None` if there is none, which is said, and not
    /// allowed where all is required.
    pub(crate) fn find() -> Option<Self> {
        let program = env::var("MAGEFLOW_PYTHON").unwrap_or_else(|_| "python3".into());
        let python = Self { program };
        if python.try_run("print(1)", "").is_some() {
            return Some(python);
        }
        let all = env::var("MAGEFLOW_TEST_REQUIRE").is_ok_and(|required| required == "all");
        assert!(!all, "`{}` cannot be run, and MAGEFLOW_TEST_REQUIRE=all", python.program);
        eprintln!("SKIPPED: `{}` cannot be run", python.program);
        None
    }

    /// The same, with these packages. They come with the tests against real servers, which set `MAGEFLOW_PYTHON`; whoever
    /// set it must have them.
    pub(crate) fn with(packages: &str) -> Option<Self> {
        let python = Self::find()?;
        if python.try_run(&format!("import {packages}"), "").is_some() {
            return Some(python);
        }
        assert!(env::var("MAGEFLOW_PYTHON").is_err(), "`{}` lacks {packages}", python.program);
        eprintln!("SKIPPED: `{}` lacks {packages}; MAGEFLOW_PYTHON can name another interpreter", python.program);
        None
    }

    /// What `script` prints, given `input`.
    pub(crate) fn run(&self, script: &str, input: &str) -> String {
        self.try_run(script, input).unwrap_or_else(|| panic!("the script failed, see above:\n{script}"))
    }

    fn try_run(&self, script: &str, input: &str) -> Option<String> {
        let mut command = Command::new(&self.program);
        command.args(["-c", script]).stdin(Stdio::piped()).stdout(Stdio::piped()).env("PYTHONUTF8", "1");
        let mut child = command.spawn().ok()?;
        let mut stdin = child.stdin.take().unwrap();
        let input = input.to_owned();
        // Written aside, so that two full pipes do not wait for each other. A script that failed does not read on.
        let writer = std::thread::spawn(move || stdin.write_all(input.as_bytes()).is_ok());
        let output = child.wait_with_output().ok()?;
        writer.join().unwrap();
        output.status.success().then(|| String::from_utf8(output.stdout).unwrap())
    }
}
