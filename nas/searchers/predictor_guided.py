"""Ours: propose the architecture that a predictor expects to improve the Pareto front most. The default.

Bayesian optimisation over architectures (White, Neiswanger, Savani: "BANANAS", AAAI 2021): candidates are mutants and
crossovers of the best measured networks, with some drawn at random. What formulas give exactly is not predicted.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from nas.config import SearcherSettings
from nas.objectives import Problem
from nas.searchers.acquisition import (
    DIRECTIONS,
    SAMPLES,
    Warp,
    directions,
    hypervolume_improvement,
    standard_normal,
)
from nas.searchers.history import History
from nas.searchers.selection import Population, crowding, ranks
from nas.trial import Proposal, Trial, TrialState
from predictors.gaussian_process import GaussianProcess
from search_spaces.architecture import Genes
from search_spaces.operators import crossover, enumerate_all, identities, mutate, sample
from search_spaces.space import Space

import os
X = dict(eval(os.environ.get('PG','{}')))
Floats = NDArray[np.float64]

CANDIDATES = 512
"""Architectures to choose from; half as many again around the best of them."""
PARENTS = 64
SMALL = 4096
"""Spaces of at most so many gene tuples are looked at as a whole."""
MAX_TRAINING = 500
"""The predictor learns from at most so many trials."""


class PredictorGuidedConfig(SearcherSettings):
    """A Gaussian process over everything measured, and expected hypervolume improvement."""

    kind: Literal["predictor_guided"] = "predictor_guided"
    initial: int = Field(default=12, ge=2, description="architectures drawn at random before any is predicted")
    exploration: float = Field(
        default=0.05, ge=0, le=1, description="share of trials that go where the predictor knows least"
    )

    def build(self, space: Space, problem: Problem, seed: int) -> PredictorGuided:
        """A fresh searcher."""
        return PredictorGuided(self, space, problem, seed)


class PredictorGuided:
    def __init__(self, config, space: Space, problem: Problem, seed: int) -> None:
        self._config, self._space, self._problem, self._seed = config, space, problem, seed
        self._history = History(space)
        self._clear()

    def _clear(self):
        self._genes = []
        self._values = []
        self._exact = None
        self._model = None
        self._elite = Population(self._space, self._problem)
        self._all = Population(self._space, self._problem)

    def tell(self, trials):
        finished, again = self._history.tell(trials)
        if again: self._clear()
        for t in finished:
            if not t.measured: continue
            self._genes.append(self._space.genes([t.architecture])[0])
            self._values.append([t.metrics[m] for m in self._problem.metrics])
            self._all.add(t)
            c = self._space.cost(t.architecture)
            if self._exact is None: self._exact = [m for m in self._problem.metrics if m in c]
            self._exact = [m for m in self._exact if abs(c[m]-t.metrics[m]) <= 1e-9*abs(c[m])]

    def ask(self, n):
        taken=set(); rows=[]
        for number in range(self._history.next_number, self._history.next_number+n):
            rng=np.random.default_rng([self._seed, number])
            row=self._history.novel(lambda r: self._draw(number, r, rows, taken), rng, taken)
            if row is None: break
            rows.append(row)
        return [Proposal(a) for a in self._space.architectures(np.concatenate(rows))] if rows else []

    def _draw(self, number, rng, pending, taken):
        n=len(self._genes)
        if n < 2 or number < self._config.initial:
            g = sample(self._space, 32, rng)
            return g
        self._fit()
        cands=self._candidates(rng, taken)
        if not len(cands): return cands
        pend=[*self._space.genes([t.architecture for t in self._history.running()]), *[r[0] for r in pending]]
        z=standard_normal(SAMPLES, len(self._problem.metrics), rng)
        explore = rng.random() < X.get('eps', .05)
        if explore: z = z*X.get('boost',3.)
        m=len(self._problem.objectives)
        rays=directions(X.get('K',DIRECTIONS), m, rng)
        score=self._score(cands, z, rays, pend, rng)
        for _ in range(X.get('rounds',1)):
            top=cands[np.argsort(-score,kind='stable')[:X.get('top',16)]]
            more=self._fresh(np.concatenate([mutate(self._space, np.repeat(top, X.get('rep',12), axis=0), rng)]), taken, cands)
            if len(more):
                s2=self._score(more, z, rays, pend, rng); cands=np.concatenate([cands,more]); score=np.concatenate([score,s2])
        return cands[np.argsort(-score,kind='stable')[:4]]

    def _fresh(self, genes, taken, besides=()):
        seen=set(identities(besides)) if len(besides) else set()
        keep=[]
        for i,k in enumerate(identities(genes)):
            if k in seen or k in taken or not self._history.is_new(k): continue
            seen.add(k); keep.append(i)
        return genes[keep]

    def _fit(self):
        n=len(self._genes)
        s=checkpoint(n, X.get('grow',1.02))
        h=checkpoint(n, X.get('hgrow',1.1))
        if self._model is None or self._model[0]!=(s,h):
            if self._model is None or self._model[0][1]!=h:
                hyper=self._fit_on(h,None)
            else: hyper=self._model[1]
            model=hyper if s==h else self._fit_on(s,hyper)
            self._model=((s,h),hyper,model)
            self._rank=ranks(self._all.losses,self._all.violations)
        elif len(self._rank)!=n:
            self._rank=ranks(self._all.losses,self._all.violations)

    def _columns(self):
        out=[]
        for j,m in enumerate(self._problem.metrics):
            if m in self._exact: continue
            sign=1
            o=[o for o in self._problem.objectives if o.metric==m]
            if o: sign=o[0].loss(1.0)
            else: sign=1 if [c for c in self._problem.constraints if c.metric==m][0].relation=='<=' else -1
            out.append((j,sign))
        return out

    def _fit_on(self,s,like):
        g=np.array(self._genes[:s]); v=np.array(self._values[:s])
        warps=[]; ys=[]
        cols=self._columns()
        if not cols: return (None,[])
        for i,(j,sign) in enumerate(cols):
            w=Warp.of(sign*v[:,j]) if like is None else like[1][i]
            if X.get('nowarp'): w=Warp(1e9,1.)
            warps.append(w); ys.append(w.forward(sign*v[:,j]))
        gp=GaussianProcess(self._space).fit_genes(g,np.stack(ys,1), like[0] if like else None)
        return (gp,warps)

    def _candidates(self,rng,taken):
        sp=self._space
        order=np.lexsort((-crowding(self._all.losses,self._rank),self._rank))
        nf=int((self._rank==0).sum())
        P=max(X.get('minp',8),min(PARENTS,nf))
        par=self._all.genes[order[:P]]
        N=X.get('N',CANDIDATES)
        one=mutate(sp,par[rng.integers(len(par),size=N//2)],rng)
        two=mutate(sp,mutate(sp,par[rng.integers(len(par),size=N//4)],rng),rng)
        cr=crossover(sp,par[rng.integers(len(par),size=N//8)],par[rng.integers(len(par),size=N//8)],rng)
        ra=sample(sp,N//8,rng)
        return self._fresh(np.concatenate([one,two,cr,ra]),taken)

    def _guess(self,genes,z):
        """metric samples (S,n,M)"""
        S=len(z); M=len(self._problem.metrics)
        out=np.empty((S,len(genes),M))
        c=self._space.costs(genes)
        for j,m in enumerate(self._problem.metrics):
            if m in self._exact: out[:,:,j]=c[m]
        cols=self._columns()
        if cols:
            gp,warps=self._model[2]
            p=gp.predict_genes(genes)
            std=p.std
            for i,(j,sign) in enumerate(cols):
                out[:,:,j]=sign*warps[i].back(p.mean[:,i]+z[:,j][:,None]*std[:,i])
        return out

    def _lv(self,vals):
        pr=self._problem
        idx={m:j for j,m in enumerate(pr.metrics)}
        L=np.stack([o.loss(1.0)*vals[...,idx[o.metric]] for o in pr.objectives],-1)
        V=np.zeros(vals.shape[:-1])
        for c in pr.constraints:
            v=vals[...,idx[c.metric]]
            V+=np.maximum(0,(v-c.bound) if c.relation=='<=' else c.bound-v)/max(abs(c.bound),1e-12)
        return L,V

    def _score(self,genes,z,rays,pend,rng):
        L,V=self._lv(self._guess(genes,z))
        feas=self._all.violations==0
        if not feas.any():
            return np.maximum(self._all.violations.min()-V,0).mean(0)-1e-6*V.mean(0)
        front=self._all.losses[(self._rank==0)]
        lo=front.min(0)
        fl=self._all.losses[feas]
        hi=np.maximum(front.max(0),np.quantile(fl,X.get('q',.75),axis=0)) if not X.get('fronthi') else front.max(0)
        width=np.where(hi>lo,hi-lo,1.)
        ref=X.get('ref',1.1)
        nrm=lambda a:(a-lo)/width/ref
        fr=nrm(front)
        if len(pend) and X.get('believe',1):
            l2,v2=self._lv(self._guess(np.array(pend),np.zeros((1,z.shape[1]))))
            fr=np.concatenate([fr,nrm(l2[0][v2[0]==0])])
        imp=hypervolume_improvement(nrm(L),fr,rays)*(V==0)
        return imp.mean(0)-1e-9*nrm(L).mean((0,2))

def checkpoint(k,growth,few=X.get('few',50)):
    s=min(k,few)
    while s<k:
        nxt=max(s+1,int(s*growth))
        if nxt>k: break
        s=nxt
    return s
