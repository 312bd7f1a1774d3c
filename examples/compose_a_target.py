"""Compose a target of your own, look at it, and train with it as with any method of the catalogue.

The target: trust the label as much as the student does; give the rest to the teacher, but only among the tokens that
the student itself finds likely.

    python examples/compose_a_target.py
"""

import torch

import qtarget as qt
from qtarget import trust


def likely_to_the_student(floor: float):
    """A potential: tokens below `floor` nats of log-probability leave the pool."""
    return lambda logp, logp_y, is_label: torch.where(logp < floor, -torch.inf, 0.0)


gamma = trust.label_probability()
cautious = qt.Method(
    name="cautious-distillation",
    trust=gamma,
    residual=((1 - gamma, qt.Pool(teachers=(1.0,), potential=likely_to_the_student(-3.0))),),
)

if __name__ == "__main__":
    torch.manual_seed(0)
    hidden, teacher_hidden = torch.randn(6, 16, requires_grad=True), torch.randn(6, 24)
    head, teacher_head = qt.Head(torch.randn(50, 16, requires_grad=True)), qt.Head(torch.randn(50, 24))
    labels = torch.randint(0, 50, (6,))
    teacher = qt.Dense(teacher_hidden, teacher_head)

    target = qt.target_distribution(hidden.detach() @ head.weight.detach().t(), labels, cautious, teacher=teacher)
    print("trust     ", target.trust)
    print("proper    ", target.is_proper)
    print("target sum", target.q.sum(-1))

    out = qt.linear_q_target_loss(hidden, head, labels, cautious, teacher=teacher, diagnostics=("target_kl",))
    out.loss.backward()
    print("loss", out.loss.item(), " nll", out.nll.item(), " KL(Q||p)", out.target_kl)
