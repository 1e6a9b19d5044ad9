pub(in crate::testing::conformance) const CASES: &[crate::testing::conformance::Case] = &[];
