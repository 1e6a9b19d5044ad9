//! Integers of any size, between decimal digits and bytes.

/// The decimal digits of a number in two's complement, little end first.
pub(super) fn decimal(bytes: &[u8], negative: bool) -> String {
    let mut limbs: Vec<u32> = bytes
        .chunks(4)
        .map(|chunk| {
            let mut all = [if negative { 0xff } else { 0 }; 4];
            all[..chunk.len()].copy_from_slice(chunk);
            u32::from_le_bytes(all)
        })
        .collect();
    if negative {
        // Two's complement of the whole gives the magnitude.
        let mut carry = true;
        for limb in &mut limbs {
            let (value, more) = (!*limb).overflowing_add(u32::from(carry));
            (*limb, carry) = (value, more);
        }
        if carry {
            limbs.push(1);
        }
    }
    const BILLION: u64 = 1_000_000_000;
    let mut groups = Vec::new();
    while limbs.last().is_some_and(|limb| *limb == 0) {
        limbs.pop();
    }
    while !limbs.is_empty() {
        let mut rest = 0_u64;
        for limb in limbs.iter_mut().rev() {
            let value = (rest << 32) | u64::from(*limb);
            // Below 2^32, since the rest is below the divisor.
            *limb = (value / BILLION) as u32;
            rest = value % BILLION;
        }
        groups.push(rest);
        while limbs.last().is_some_and(|limb| *limb == 0) {
            limbs.pop();
        }
    }
    let mut out = String::from(if negative { "-" } else { "" });
    match groups.pop() {
        None => out.push('0'),
        Some(first) => out.push_str(&first.to_string()),
    }
    for group in groups.iter().rev() {
        out.push_str(&format!("{group:09}"));
    }
    out
}

/// Decimal digits as two's complement, little end first, with room for the sign.
pub(super) fn twos_complement(digits: &str, negative: bool) -> Vec<u8> {
    let mut limbs: Vec<u32> = Vec::with_capacity(digits.len() / 9 + 2);
    for group in digits.as_bytes().chunks(9) {
        let factor = 10_u64.pow(group.len() as u32);
        let mut carry = group.iter().fold(0_u64, |value, digit| value * 10 + u64::from(digit - b'0'));
        for limb in &mut limbs {
            let value = u64::from(*limb) * factor + carry;
            *limb = value as u32;
            carry = value >> 32;
        }
        if carry > 0 {
            limbs.push(carry as u32);
        }
    }
    limbs.push(0);
    if negative {
        let mut carry = true;
        for limb in &mut limbs {
            let (value, more) = (!*limb).overflowing_add(u32::from(carry));
            (*limb, carry) = (value, more);
        }
    }
    let mut bytes: Vec<u8> = limbs.iter().flat_map(|limb| limb.to_le_bytes()).collect();
    let fill = if negative { 0xff } else { 0 };
    // As few as Python writes: the last one must keep the sign.
    while let [.., before, last] = bytes[..]
        && last == fill
        && (before ^ fill) & 0x80 == 0
    {
        bytes.pop();
    }
    bytes
}
