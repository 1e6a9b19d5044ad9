//! How things work and what exactly holds, page by page. The programs on these pages are run as tests.

/// One module for each page, so that pages refer to each other by name here and by file in a repository browser.
macro_rules! pages {
    ($($page:ident $(if $feature:literal)?),* $(,)?) => {$(
        // The first definition of a link counts, so these come before those of the page.
        $(#[cfg_attr(not(feature = $feature), doc = concat!("Shown with the feature `", $feature, "`."))])?
        #[cfg_attr(all($(feature = $feature)?), doc = concat!(
            "[tasks]: crate::guide::tasks\n",
            "[signatures]: crate::guide::signatures\n",
            "[chains]: crate::guide::chains\n",
            "[swarms]: crate::guide::swarms\n",
            "[workflows]: crate::guide::workflows\n",
            "[lifecycle]: crate::guide::lifecycle\n",
            "[retries]: crate::guide::retries\n",
            "[redis]: crate::guide::redis\n",
            "[celery]: crate::guide::celery\n",
            "[hatchet]: crate::guide::hatchet\n",
            "[taskiq]: crate::guide::taskiq\n",
            "[testing]: crate::guide::testing\n\n",
            include_str!(concat!("../docs/", stringify!($page), ".md")),
        ))]
        pub mod $page {}
    )*};
}

pages!(tasks, signatures, chains, swarms, workflows, lifecycle, retries, redis if "redis", celery if "celery", hatchet if "hatchet", taskiq if "taskiq", testing if "testing");
