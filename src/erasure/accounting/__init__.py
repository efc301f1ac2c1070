"""What noise proves: how far apart two outputs can be told, from exact formulas and without torch.

``guarantee``
    What a method promises of its result; pure data, read by rows, reports and certificates.
``gaussian``
    Gaussian differential privacy: the exact trade-off of two Gaussians, both ways, and the noise that a budget asks for.
``renyi``
    Rényi bounds and their conversion.
``events``
    What happened to a model, as frozen values that answer ``epsilon(delta)`` and ``delta(epsilon)``.
``sensitivity``
    Distances between iterates that the events start from: Descent-to-Delete, rewinding, Newton's budget.
"""
