"""The splines of this package are zuko's, made faster."""

from __future__ import annotations

import pytest
import torch
import zuko

from serendip.density.splines import spline_flow


@pytest.mark.parametrize("passes", [None, 2])
def test_a_spline_flow_is_that_of_zuko(passes):
    flows = []
    for make in (zuko.flows.NSF, spline_flow):
        with torch.random.fork_rng():
            torch.manual_seed(1)
            flows.append(make(4, 3, bins=6, transforms=2, hidden_features=[16], passes=passes).double())
    theirs, ours = flows
    assert all(torch.equal(a, b) for a, b in zip(theirs.parameters(), ours.parameters(), strict=True))
    # stored models keep their meaning
    assert theirs.state_dict().keys() == ours.state_dict().keys()
    for flow in flows:
        for parameter in flow.parameters():
            parameter.data *= 1.5
    generator = torch.Generator().manual_seed(2)
    # a twentieth lies beyond the splines, which are the identity there
    x, c = (torch.randn(2000, k, generator=generator, dtype=torch.float64) * 2.5 for k in (4, 3))
    assert ((x.abs() > 5).any(1)).sum() > 100
    log_p = [flow(c).log_prob(x) for flow in flows]
    torch.testing.assert_close(log_p[1], log_p[0], rtol=1e-9, atol=1e-9)
    noise, log_jacobian = ours(c).transform.call_and_ladj(x)
    torch.testing.assert_close(noise, theirs(c).transform(x), rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(log_p[1], ours.base(c).log_prob(noise) + log_jacobian)
    torch.testing.assert_close(ours(c).transform.inv(noise), x, rtol=1e-7, atol=1e-7)
    for log in log_p:
        log.sum().backward()
    for a, b in zip(theirs.parameters(), ours.parameters(), strict=True):
        torch.testing.assert_close(b.grad, a.grad, rtol=1e-6, atol=1e-8)
