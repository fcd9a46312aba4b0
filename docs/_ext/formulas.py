"""Formulas of docstrings, typeset: a docstring is plain text, which `help` shows as it stands.

What is replaced is compared letter by letter; a test finds each text in the package, so that a formula which
changes there is changed here. Those that stand alone in a docstring are displayed.
"""

DISPLAYED = {
    "v = |s|^2 / (1 + |s|^2) * s / |s|, with the Jacobian, written by hand,": (
        r"v = \frac{\lVert s\rVert^2}{1 + \lVert s\rVert^2}\, \frac{s}{\lVert s\rVert}",
        "with the Jacobian, written by hand,",
    ),
    "J(s) = g (I - n n^T) + h n n^T, where n = s / |s|, g = |s| / (1 + |s|^2), h = 2 |s| / (1 + |s|^2)^2.": (
        r"J(s) = g\,(I - n n^\top) + h\, n n^\top, \\ n = \frac{s}{\lVert s\rVert}, \quad "
        r"g = \frac{\lVert s\rVert}{1 + \lVert s\rVert^2}, \quad "
        r"h = \frac{2\lVert s\rVert}{(1 + \lVert s\rVert^2)^2}.",
        "",
    ),
    "L = sum_k T_k max(0, m+ - |v_k|)^2 + lambda (1 - T_k) max(0, |v_k| - m-)^2": (
        r"L = \sum_k T_k \max(0,\, m^+ - \lVert v_k\rVert)^2 "
        r"+ \lambda\,(1 - T_k) \max(0,\, \lVert v_k\rVert - m^-)^2",
        "",
    ),
    "b_ij <- damping b_ij + (1 - damping) inverse_temperature (vote_ij . v_j).": (
        r"b_{ij} \leftarrow \gamma\, b_{ij} + (1 - \gamma)\, \beta\, (\hat u_{j|i} \cdot v_j), \quad "
        r"\gamma = \texttt{damping}, \quad \beta = \texttt{inverse\_temperature}.",
        "",
    ),
    "F(c) = inverse_temperature sum_j phi(|s_j|) + sum_i H(c_i),   phi(x) = x - arctan x,": (
        r"F(c) = \beta \sum_j \varphi(\lVert s_j\rVert) + \sum_i H(c_i), \quad "
        r"\varphi(x) = x - \arctan x,",
        "",
    ),
    "y = c_bar + (d target / d c)^T z,    z = b_bar + (d couple / d b)^T y,": (
        r"y = \bar c + \Big(\frac{\partial\, \mathrm{target}}{\partial c}\Big)^{\!\top} z, \quad "
        r"z = \bar b + \Big(\frac{\partial\, \mathrm{couple}}{\partial b}\Big)^{\!\top} y,",
        "",
    ),
    "mu_jh = sum_i r_ij V_ijh / sum_i r_ij": (
        r"\mu_{jh} = \frac{\sum_i r_{ij} V_{ijh}}{\sum_i r_{ij}}",
        "",
    ),
    "sigma_jh^2 = sum_i r_ij (V_ijh - mu_jh)^2 / sum_i r_ij + floor": (
        r"\sigma_{jh}^2 = \frac{\sum_i r_{ij} (V_{ijh} - \mu_{jh})^2}{\sum_i r_{ij}} + \mathtt{floor}",
        "",
    ),
    "cost_jh = (beta_u,j + log sigma_jh) sum_i r_ij": (
        r"\mathrm{cost}_{jh} = \bigl(\beta_{u,j} + \log \sigma_{jh}\bigr) \sum_i r_{ij}",
        "",
    ),
    "a_j = logistic(lambda_t (beta_a,j - sum_h cost_jh)),   lambda_t = final_lambda (1 - 0.95^(t+1))": (
        r"a_j = \operatorname{logistic}\Bigl("
        r"\lambda_t \bigl(\beta_{a,j} - \sum_h \mathrm{cost}_{jh}\bigr)\Bigr), \quad "
        r"\lambda_t = \mathtt{final\_lambda}\, (1 - 0.95^{t+1})",
        "",
    ),
    "b_ij = log a_j + sum_h log N(V_ijh; mu_jh, sigma_jh)": (
        r"b_{ij} = \log a_j + \sum_h \log \mathcal{N}(V_{ijh};\, \mu_{jh}, \sigma_{jh})",
        "",
    ),
    "c_ij = softmax over j of (route_ij . u_i + offset_ij)": (
        r"c_{ij} = \operatorname{softmax}_j(\mathrm{route}_{ij} \cdot u_i + \mathrm{offset}_{ij})",
        "",
    ),
    "a_j = sum_i c_ij a_i / sum_ik c_ik a_i,   v_j = sum_i c_ij a_i V_ij / sum_i c_ij a_i": (
        r"a_j = \frac{\sum_i c_{ij} a_i}{\sum_{ik} c_{ik} a_i}, \quad "
        r"v_j = \frac{\sum_i c_{ij} a_i V_{ij}}{\sum_i c_{ij} a_i}",
        "",
    ),
    "shifted[b, y, x] = images[b, y - dy_b, x - dx_b]": (
        r"\mathrm{shifted}_{b,y,x} = \mathrm{images}_{b,\; y - dy_b,\; x - dx_b}",
        "",
    ),
}

INLINE = {
    "c = softmax of b over the parents; s_j = sum_i c_ij vote_ij + bias_j;\nv_j = squash(s_j); "
    "between readouts, b_ij += vote_ij . v_j.": (
        r"{c_{ij} = \mathrm{softmax}_j(b_{ij})}, {s_j = \sum_i c_{ij} \hat u_{j|i} + \mathrm{bias}_j}, "
        r"{v_j = \mathrm{squash}(s_j)}; between readouts {b_{ij} \mathrel{+}= \hat u_{j|i} \cdot v_j}."
    ),
    "c = softmax of b over the parents; v_j = squash(sum_i c_ij vote_ij + bias_j); and between readouts": (
        r"{c_{ij} = \mathrm{softmax}_j(b_{ij})}, "
        r"{v_j = \mathrm{squash}\big(\sum_i c_{ij} \hat u_{j|i} + \mathrm{bias}_j\big)}; and between readouts"
    ),
    "b_ij = inverse_temperature (vote_ij . v_j)": r"{b_{ij} = \beta\, (\hat u_{j|i} \cdot v_j)}",
    "c = couple(b, x) and b = target(c, x)": (
        r"{c = \mathrm{couple}(b, x)} and {b = \mathrm{target}(c, x)}"
    ),
    "(d target / d x)^T z + (d couple / d x)^T y": (
        r"{\big(\partial\, \mathrm{target} / \partial x\big)^{\top} z "
        r"+ \big(\partial\, \mathrm{couple} / \partial x\big)^{\top} y}"
    ),
    "s_j = sum_i c_ij vote_ij": r"{s_j = \sum_i c_{ij} \hat u_{j|i}}",
    "s_j = sum_i c_ij W_ij u_i": r"{s_j = \sum_i c_{ij} W_{ij} u_i}",
    "a_ij = (W_ij u_i) . v_j": r"{a_{ij} = (W_{ij} u_i) \cdot v_j}",
    "vote_ij = W_ij u_i": r"{\hat u_{j|i} = W_{ij} u_i}",
    "the votes W_ij u_i": r"the votes {W_{ij} u_i}",
    "v_j = squash(sum_i c_ij vote_ij + bias_j)": (
        r"{v_j = \mathrm{squash}\big(\sum_i c_{ij} \hat u_{j|i} + \mathrm{bias}_j\big)}"
    ),
    "c_ij = 1/J": r"{c_{ij} = 1/J}",
    "length |x| along": r"length {\lVert x\rVert} along",
    "over {-m, ..., m}^2": r"over {\{-m, \dots, m\}^2}",
}


def typeset(lines: list[str]) -> list[str]:
    """Replace the formulas of a docstring by their typeset form, in reStructuredText."""
    text = "\n".join(lines)
    for plain, (formula, after) in DISPLAYED.items():
        text = text.replace(f"    {plain}", plain)
        block = f"\n.. math:: {formula}\n\n{after}"
        text = text.replace(plain, block)
    for plain, words in INLINE.items():
        text = text.replace(plain, _roles(words))
    return text.split("\n")


def _roles(words: str) -> str:
    """Make each outermost {...} a formula within the line."""
    found, depth, before = [], 0, ""
    for sign in words:
        escaped = before == "\\"
        if sign == "{" and not escaped:
            depth += 1
            found.append(":math:`" if depth == 1 else sign)
        elif sign == "}" and not escaped:
            depth -= 1
            found.append("`" if depth == 0 else sign)
        else:
            found.append(sign)
        before = sign
    return "".join(found)
